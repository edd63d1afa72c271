//! How well and how fast questions are linked: `cargo bench --bench link`.
//!
//! Spider dev over all 166 databases at once, part by part of the ranking, on two halves that share no database (the
//! weights were tuned on the first), then the time of an answer at the size of Spider and at 10,000 datasets. Needs the
//! embedding model (docker/model/prepare.sh) and ../shared/data/spider.

mod spider;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use spider::{Figures, Question, Spider, Table, answers};
use steward::rag::FastembedOptions;
use steward::rag::embed::{Embedder, FastembedEmbedder};
use steward::semantic::{Linker, ScoreParts};

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let Some(spider) = Spider::load() else { return };
    let Some(embedder) = embedder() else { return };
    let counter = embedder.counter();
    let count = |text: &str| counter.count(text);

    let started = Instant::now();
    let linker = Linker::new(spider.catalog(1).models);
    let texts = linker.texts();
    println!("catalog and linker of {} datasets: {:.1?}", texts.len(), started.elapsed());
    let rows = timed("embedding the datasets", || embed(&embedder, &texts));
    let words_only = Linker::new(linker.models().to_vec());
    assert!(linker.set_vectors(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>()), "one row a text");

    let asked: Vec<String> = spider.questions.iter().map(|question| question.text.clone()).collect();
    let vectors = timed("embedding the questions", || {
        let embedded = asked.iter().map(|text| embedder.embed_query(text).expect("the model embeds"));
        embedded.collect::<Vec<_>>()
    });

    let halves = halves(&spider);
    println!("\n| ranking | half | R@1 | R@5 | R@10 | all gold tables in ten |\n|---|---|---|---|---|---|");
    for (half, members) in ["tuned on", "held out", "all"].iter().zip(&halves) {
        let questions: Vec<&Question> = members.iter().map(|at| &spider.questions[*at]).collect();
        let own: Vec<Vec<f32>> = members.iter().map(|at| vectors[*at].clone()).collect();
        let print = |ranking: &str, found: Vec<Vec<Table>>| {
            let figures = Figures::of(&questions, &found);
            let [one, five, ten] = figures.recall;
            println!(
                "| {ranking} | {half} ({}) | {one:.3} | {five:.3} | {ten:.3} | {:.3} |",
                figures.questions, figures.all_in_ten
            );
        };
        let by = |score: fn(&ScoreParts) -> f32| ranked(&linker, &questions, Some(&own), score);
        print("words", by(|parts| parts.words));
        print("meaning", by(|parts| parts.meaning));
        print("words and meaning", by(|parts| parts.words + parts.meaning));
        print("words, company", ranked(&words_only, &questions, None, ScoreParts::total));
        print("words, meaning, company", by(ScoreParts::total));
        print("the answer, words only", answers(&words_only, &questions, None, &count).0);
        print("the answer", answers(&linker, &questions, Some(&own), &count).0);
    }

    println!("\n| datasets | answers | p50 | p99 | longest |\n|---|---|---|---|---|");
    let all: Vec<&Question> = spider.questions.iter().collect();
    time_answers(&linker, &all, &vectors, &count);
    let copies = 10_000usize.div_ceil(texts.len());
    let large = Linker::new(spider.catalog(copies).models);
    let by_text: HashMap<&str, &[f32]> =
        texts.iter().map(String::as_str).zip(rows.iter().map(Vec::as_slice)).collect();
    // A copy's text names its own model; its vector is that of the original.
    let of_original = |text: &String| {
        let without_copy = (0..copies)
            .find_map(|copy| by_text.get(text.replace(&format!(" {copy})"), ")").as_str()).copied());
        by_text.get(text.as_str()).copied().or(without_copy).expect("every copy has an original")
    };
    let texts = large.texts();
    assert!(large.set_vectors(&texts.iter().map(of_original).collect::<Vec<_>>()), "one row a text");
    time_answers(&large, &all[..200], &vectors, &count);
}

/// All datasets by a part of their score, best first.
fn ranked(
    linker: &Linker,
    questions: &[&Question],
    vectors: Option<&[Vec<f32>]>,
    score: impl Fn(&ScoreParts) -> f32,
) -> Vec<Vec<Table>> {
    let rank = |(at, question): (usize, &&Question)| {
        let mut scored: Vec<(f32, Table)> = linker
            .rank_datasets(&question.text, vectors.map(|vectors| vectors[at].as_slice()))
            .into_iter()
            .map(|(model, dataset, parts)| (score(&parts), (model.to_owned(), dataset.to_owned())))
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        scored.truncate(10);
        scored.into_iter().map(|(_, table)| table).collect()
    };
    questions.iter().enumerate().map(rank).collect()
}

/// Questions of every other database, those of the rest, and all.
fn halves(spider: &Spider) -> [Vec<usize>; 3] {
    let databases: BTreeSet<&str> =
        spider.questions.iter().map(|question| question.database.as_str()).collect();
    let databases: Vec<&str> = databases.into_iter().collect();
    let is_in = |question: &Question, half: usize| {
        databases.iter().position(|known| *known == question.database).is_some_and(|at| at % 2 == half)
    };
    let of = |half: usize| {
        let members = spider.questions.iter().enumerate().filter(|(_, question)| is_in(question, half));
        members.map(|(at, _)| at).collect()
    };
    [of(0), of(1), (0..spider.questions.len()).collect()]
}

fn time_answers(
    linker: &Linker,
    questions: &[&Question],
    vectors: &[Vec<f32>],
    count: &dyn Fn(&str) -> usize,
) {
    let (_, mut times) = answers(linker, questions, Some(vectors), count);
    times.sort();
    let at = |share: usize| -> Duration { times[(times.len() - 1) * share / 100] };
    let datasets: usize = linker.models().iter().map(|model| model.datasets.len()).sum();
    println!("| {datasets} | {} | {:.2?} | {:.2?} | {:.2?} |", times.len(), at(50), at(99), at(100));
}

fn embed(embedder: &FastembedEmbedder, texts: &[String]) -> Vec<Vec<f32>> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    embedder.embed(&texts).expect("the model embeds")
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let result = work();
    println!("{what}: {:.1?}", started.elapsed());
    result
}

fn embedder() -> Option<FastembedEmbedder> {
    let Some(models_dir) = std::env::var_os("STEWARD_MODELS_DIR").map(PathBuf::from) else {
        println!("skipped: STEWARD_MODELS_DIR is not set; source docker/setup.sh and run setup");
        return None;
    };
    let options = FastembedOptions {
        model: "all-MiniLM-L6-v2-int8".to_owned(),
        models_dir,
        onnxruntime: None,
        intra_threads: Some(1),
    };
    match FastembedEmbedder::load(options) {
        Ok(embedder) => Some(embedder),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}
