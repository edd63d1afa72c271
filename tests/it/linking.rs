//! Linking at the service's door: with the real model over HTTP, and its ranking over Spider.

use serde_json::{Value, json};

use crate::harness::{AGENT_SCOPES, Service};
use crate::spider::{Figures, Question, Spider, Table, answers};
use steward::semantic::{Linker, estimate_tokens};

async fn link(service: &Service, token: &str, request: Value) -> Value {
    let (status, answer) = service.post(token, "/v1/semantic/link", request).await;
    assert_eq!(status, 200, "{answer:#}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn words_rank_at_once_and_meaning_joins_in_when_the_vectors_are_there() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;
    let question = json!({"question": "Which carriers were the least punctual?"});
    let mut answer = link(&service, &token, question.clone()).await;
    for _ in 0..2_000 {
        assert!(answer["items"].as_array().is_some_and(|items| !items.is_empty()), "{answer:#}");
        if answer["ranked_by"] == "words+meaning" {
            break;
        }
        assert!(answer["note"].as_str().unwrap().contains("words alone"), "{answer:#}");
        answer = link(&service, &token, question.clone()).await;
    }
    assert_eq!(answer["ranked_by"], "words+meaning");
    assert_eq!(
        (&answer["note"], &answer["tokens_counted_by"]),
        (&Value::Null, &json!("all-MiniLM-L6-v2-int8"))
    );
    let airlines =
        answer["items"].as_array().unwrap().iter().find(|item| item["name"] == "airlines").unwrap();
    assert!(airlines["score_parts"]["meaning"].as_f64().unwrap() > 0.0, "{airlines:#}");

    // A restart has the vectors on disk.
    let file = service.data_dir().join("data/linking/vectors.bin");
    let kept = std::fs::read(&file).unwrap();
    let service = service.restart().await;
    let token = service.token(AGENT_SCOPES).await;
    for _ in 0..2_000 {
        if link(&service, &token, question.clone()).await["ranked_by"] == "words+meaning" {
            break;
        }
    }
    assert!(std::fs::read(service.data_dir().join("data/linking/vectors.bin")).unwrap() == kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_comes_as_items_as_prompt_or_both_and_says_what_it_cannot_take() {
    let service = Service::start().await;
    let token = service.token(AGENT_SCOPES).await;
    let question = "average departure delay from JFK by airline";
    let ask = async |format: &str| {
        link(&service, &token, json!({"question": question, "budget_tokens": 900, "format": format})).await
    };
    let (items, prompt) = (ask("json").await, ask("prompt").await);
    assert_eq!((&items["prompt"], &prompt["items"]), (&json!(""), &json!([])));
    assert!(prompt["tokens"].as_u64().unwrap() <= 900 && !prompt["prompt"].as_str().unwrap().is_empty());
    let of_kind = |kind: &str| {
        let all = items["items"].as_array().unwrap().iter();
        all.filter(|item| item["kind"] == kind).cloned().collect::<Vec<_>>()
    };
    assert!(
        of_kind("value")
            .iter()
            .any(|item| item["value"]["value"] == "JFK" && item["value"]["field"] == "origin")
    );
    assert!(
        of_kind("relationship")
            .iter()
            .any(|item| item["join"]["on"] == json!(["flights.carrier = airlines.carrier"]))
    );
    for (request, wanted) in [
        (json!({"question": " "}), "empty"),
        (json!({"question": "delays ".repeat(2_000)}), "8000"),
        (json!({"question": "delays", "budget_tokens": 99}), "100 to 100,000"),
    ] {
        let (status, problem) = service.post(&token, "/v1/semantic/link", request).await;
        assert_eq!(status, 400, "{problem:#}");
        assert!(problem["detail"].as_str().unwrap().contains(wanted), "{problem:#}");
    }
}

/// The floor under the ranking, by words alone, so that it needs no model. `cargo bench --bench link` measures it all.
#[test]
fn questions_of_spider_find_their_tables_among_876() {
    let Some(spider) = Spider::load() else { return };
    let linker = Linker::new(spider.catalog(1).models);
    let sample: Vec<&Question> = spider.questions.iter().step_by(5).collect();
    assert_eq!(sample.len(), 207);
    let (found, _) = answers(&linker, &sample, None, &estimate_tokens);
    let figures = Figures::of(&sample, &found);
    assert_eq!(figures.questions, sample.len());
    assert!(figures.recall[1] >= 0.88 && figures.all_in_ten >= 0.90, "{figures:?}");
    let is_first = |(question, found): &(&&Question, &Vec<Table>)| {
        found.first().is_some_and(|(model, _)| *model == question.database)
    };
    let right_database = sample.iter().zip(&found).filter(is_first).count();
    assert!(right_database * 100 >= sample.len() * 72, "{right_database} of {}", sample.len());
}
