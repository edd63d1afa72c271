use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::rag::chunk::tokens::BYTES_PER_TOKEN;
use crate::rag::chunk::tokens::tests::small_counter;

const LIMITS: Limits = Limits { tokens: 80, overlap: 0 };

fn chunks_of(text: &str, limits: Limits) -> Vec<Chunk> {
    chunk_tree(small_counter(), &Tree::parse(text).unwrap(), ChunkKind::Json, limits)
}

fn squeezed(text: &str) -> String {
    text.chars().filter(|character| !character.is_whitespace()).collect()
}

#[test]
fn a_body_that_fits_is_one_chunk_of_flat_lines() {
    let chunks = chunks_of(r#"{"name": "wind", "at": {"x": 1, "y": [1, 2]}, "none": {}, "e": ""}"#, LIMITS);
    assert_eq!(chunks.len(), 1);
    assert_eq!(chunks[0].text, "name: wind\nat.x: 1\nat.y: 1, 2\nnone: {}\ne: \"\"");
    assert_eq!((chunks[0].byte_start, chunks[0].byte_end), (0, 66));
}

#[test]
fn small_records_stay_whole_and_are_packed_many_to_a_chunk() {
    let body = json!({"rows": (0..40).map(|row| json!({"temp": row, "wind": row})).collect::<Vec<_>>()});
    let text = body.to_string();
    let chunks = chunks_of(&text, LIMITS);
    assert!(chunks.len() < 20, "{}", chunks.len());
    assert!(chunks[0].text.starts_with("rows\n[0]\ntemp: 0\nwind: 0\n[1]\n"), "{}", chunks[0].text);
    let mut next = 0;
    for chunk in &chunks {
        let bytes = &text[chunk.byte_start as usize..chunk.byte_end as usize];
        let rows: Vec<Value> = serde_json::from_str(&format!("[{bytes}]")).unwrap();
        assert_eq!(chunk.pointer_first, format!("/rows/{next}"));
        next += rows.len();
        assert_eq!(chunk.pointer_last, format!("/rows/{}", next - 1));
        for row in rows {
            assert!(chunk.text.contains(&format!("temp: {}\nwind: {}", row["temp"], row["wind"])));
        }
    }
    assert_eq!(next, 40);
}

#[test]
fn a_piece_of_a_large_record_says_which_record_it_is_of() {
    let parts: Vec<Value> = (0..30).map(|part| json!({"wind": part, "rain": part})).collect();
    let body = json!([{"id": "a1", "name": "rain delay", "deep": {"parts": parts}}, {"id": "b2"}]);
    let chunks = chunks_of(&body.to_string(), LIMITS);
    let later = chunks.iter().filter(|chunk| chunk.text.starts_with("[0].deep.parts\n")).collect::<Vec<_>>();
    assert!(later.len() > 2, "{chunks:#?}");
    for chunk in later {
        assert!(chunk.text.contains("[0].name: rain delay"), "{}", chunk.text);
    }
}

#[test]
fn a_plain_list_that_does_not_fit_says_which_elements_it_shows() {
    let body = json!({"values": (0..300).collect::<Vec<_>>()}).to_string();
    let chunks = chunks_of(&body, LIMITS);
    assert!(chunks.len() > 3);
    assert!(chunks[0].text.starts_with("values\n[0.."), "{}", chunks[0].text);
    for chunk in &chunks {
        let bytes = &body[chunk.byte_start as usize..chunk.byte_end as usize];
        let values: Vec<i64> = serde_json::from_str(&format!("[{bytes}]")).unwrap();
        assert_eq!(chunk.pointer_first, format!("/values/{}", values[0]));
        assert_eq!(chunk.pointer_last, format!("/values/{}", values[values.len() - 1]));
    }
}

#[test]
fn a_long_string_is_split_at_sentences_with_exact_bytes() {
    let sentence = "the wind was \"strong\" in n\u{e9}wark. ";
    let body = json!({"id": 7, "summary": sentence.repeat(30)}).to_string();
    let chunks = chunks_of(&body, LIMITS);
    let pieces: Vec<&Chunk> = chunks.iter().filter(|chunk| chunk.pointer_first == "/summary").collect();
    assert!(pieces.len() > 3);
    for chunk in pieces {
        let raw = &body[chunk.byte_start as usize..chunk.byte_end as usize];
        let piece = decode(raw).text.into_owned();
        assert!(chunk.text.ends_with(&piece), "{} / {piece}", chunk.text);
        assert!(chunk.text.contains("id: 7"));
    }
}

#[test]
fn long_keys_and_long_paths_are_not_dropped() {
    let long = "delay ".repeat(100).trim().to_owned();
    let mut body = json!({"wind": "x ".repeat(200)});
    for depth in 0..30 {
        body = json!({format!("level{depth}"): body});
    }
    let body = json!({long.clone(): {"a": [body]}, "short": 1}).to_string();
    let chunks = chunks_of(&body, LIMITS);
    let all: String = chunks.iter().map(|chunk| chunk.text.as_str()).collect();
    assert!(all.matches("delay").count() >= 100);
    for depth in 0..30 {
        assert!(all.contains(&format!("level{depth}")), "level{depth}");
    }
    for chunk in &chunks {
        assert!(chunk.tokens as usize <= LIMITS.budget(), "{} tokens: {}", chunk.tokens, chunk.text);
    }
}

#[test]
fn a_huge_word_is_cut_by_bytes() {
    let body = json!({"blob": "QUJD".repeat(50_000)}).to_string();
    let chunks = chunks_of(&body, LIMITS);
    assert!(chunks.len() > 100);
    assert!(chunks.iter().all(|chunk| chunk.text.len() <= LIMITS.budget() * BYTES_PER_TOKEN));
}

#[test]
fn wide_and_deep_bodies_take_near_linear_time() {
    let wide = |count: usize| {
        let members: Vec<String> = (0..count).map(|at| format!("\"key{at}\":{{\"wind\":{at}}}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let deep = |count: usize| {
        let mut text = String::new();
        for at in 0..60 {
            text.push_str(&format!("{{\"k{at}\":[{}", "1,".repeat(count)));
        }
        text.push('1');
        text.push_str(&"]}".repeat(60));
        text
    };
    // The same counter for all: building it is not what is measured.
    let counter = small_counter();
    let seconds = |text: &str| {
        let started = std::time::Instant::now();
        let tree = Tree::parse(text).unwrap();
        assert!(!chunk_tree(counter, &tree, ChunkKind::Json, LIMITS).is_empty());
        started.elapsed().as_secs_f64()
    };
    for (small, large) in [(wide(2_000), wide(20_000)), (deep(20), deep(200))] {
        let growth = large.len() as f64 / small.len() as f64;
        let slower = seconds(&large) / seconds(&small).max(1e-3);
        assert!(slower < growth * 8.0, "{growth} times the bytes took {slower} times as long");
    }
}

/// Any JSON value, with strings long enough to be split.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z0-9 .\\n\"\\\\é]{0,30}".prop_map(Value::from),
        "(wind rain [a-z]{1,5}\\. ){0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 120, 12, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..12).prop_map(Value::from),
            prop::collection::vec(("[a-z/~.\" ]{0,12}", inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn scalars(value: &Value, out: &mut Vec<Value>) {
    match value {
        Value::Array(elements) => elements.iter().for_each(|element| scalars(element, out)),
        Value::Object(members) => members.values().for_each(|member| scalars(member, out)),
        scalar => out.push(scalar.clone()),
    }
}

fn keys(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Array(elements) => elements.iter().for_each(|element| keys(element, out)),
        Value::Object(members) => members.iter().for_each(|(key, member)| {
            out.push(key.clone());
            keys(member, out);
        }),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_scalar_and_key_stands_in_some_chunk_within_the_budget(
        body in any_json(), tokens in 34usize..200, pretty: bool,
    ) {
        let text = if pretty { serde_json::to_string_pretty(&body) } else { serde_json::to_string(&body) }.unwrap();
        let limits = Limits { tokens, overlap: 0 };
        let chunks = chunks_of(&text, limits);
        for chunk in &chunks {
            prop_assert!(chunk.tokens as usize <= limits.budget(), "{} > {}: {}", chunk.tokens, tokens - 2, chunk.text);
        }
        let mut expected = Vec::new();
        scalars(&body, &mut expected);
        // A split string's pieces are consecutive; without their labels they join up again.
        let mut pieces: std::collections::HashMap<String, String> = std::collections::HashMap::new();
        for chunk in chunks.iter().filter(|chunk| chunk.pointer_first == chunk.pointer_last) {
            let raw = decode(&text[chunk.byte_start as usize..chunk.byte_end as usize]).text.into_owned();
            pieces.entry(chunk.pointer_first.clone()).or_default().push_str(&raw);
        }
        let whole: Vec<String> = chunks.iter().map(|chunk| squeezed(&chunk.text)).collect();
        for scalar in expected {
            let shown = match &scalar {
                Value::String(text) => squeezed(text),
                other => other.to_string(),
            };
            prop_assert!(
                whole.iter().any(|chunk| chunk.contains(&shown))
                    || pieces.values().any(|joined| squeezed(joined).contains(&shown)),
                "{shown:?} is in no chunk",
            );
        }
        let mut expected = Vec::new();
        keys(&body, &mut expected);
        for key in expected {
            let (plain, shown) = (squeezed(&key), squeezed(&shown_key(&key)));
            let found = whole.iter().any(|chunk| chunk.contains(&plain) || chunk.contains(&shown));
            prop_assert!(found, "key {key:?} is in no chunk");
        }
    }

    #[test]
    fn the_bytes_of_a_chunk_are_the_values_its_pointers_name(body in any_json(), tokens in 34usize..200) {
        let text = serde_json::to_string(&body).unwrap();
        for chunk in chunks_of(&text, Limits { tokens, overlap: 0 }) {
            let bytes = &text[chunk.byte_start as usize..chunk.byte_end as usize];
            let first = body.pointer(&chunk.pointer_first);
            prop_assert!(first.is_some(), "{} leads nowhere", chunk.pointer_first);
            let last = body.pointer(&chunk.pointer_last);
            prop_assert!(last.is_some(), "{} leads nowhere", chunk.pointer_last);
            let value: Option<Value> = serde_json::from_str(bytes).ok();
            let elements: Option<Vec<Value>> = serde_json::from_str(&format!("[{bytes}]")).ok();
            let members: Option<Value> = serde_json::from_str(&format!("{{{bytes}}}")).ok();
            let named = value.as_ref() == first
                || elements.is_some_and(|all| all.first() == first && all.last() == last)
                || members.is_some_and(|all| {
                    all.as_object().is_some_and(|all| all.values().next() == first && all.values().next_back() == last)
                })
                // A piece of a string, or of a key.
                || first.and_then(Value::as_str).is_some_and(|whole| whole.contains(&*decode(bytes).text))
                // A piece of a number, where its path leaves less room than its digits need.
                || first.is_some_and(|whole| whole.is_number() && whole.to_string().contains(bytes))
                || chunk.pointer_first.ends_with(&decode(bytes).text.replace('~', "~0").replace('/', "~1"))
                || chunk.text.contains("key: ");
            prop_assert!(named, "{bytes} is not {}..{}", chunk.pointer_first, chunk.pointer_last);
        }
    }

    #[test]
    fn a_number_behind_a_long_path_is_split_without_losing_a_digit(digits in "[1-9][0-9]{0,17}", tokens in 34usize..40) {
        let text = format!("{{\" aa. ~~..~\":{{\"~.\\\" a~a\\\"a.\":{digits}}}}}");
        let chunks = chunks_of(&text, Limits { tokens, overlap: 0 });
        let (start, end) = (text.find(&digits).unwrap() as u64, (text.find(&digits).unwrap() + digits.len()) as u64);
        let covered: String = chunks
            .iter()
            .filter(|chunk| chunk.byte_start < end && chunk.byte_end > start && !chunk.text.contains("key: "))
            .map(|chunk| &text[chunk.byte_start.max(start) as usize..chunk.byte_end.min(end) as usize])
            .collect();
        prop_assert_eq!(covered, digits);
    }

    #[test]
    fn lines_are_records_with_their_numbers(rows in prop::collection::vec(any_json(), 1..12)) {
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        let tree = Tree::parse_lines(&text).unwrap();
        let body = Value::from(rows);
        for chunk in chunk_tree(small_counter(), &tree, ChunkKind::JsonLines, LIMITS) {
            prop_assert!(body.pointer(&chunk.pointer_first).is_some());
            prop_assert!(body.pointer(&chunk.pointer_last).is_some());
            prop_assert!(chunk.tokens as usize <= LIMITS.budget());
        }
    }
}
