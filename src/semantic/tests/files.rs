//! What may stand in a folder besides clean files.

use std::time::{Duration, Instant};

use crate::semantic::*;

const GOOD: &str =
    "name: m\ndescription: d is one.\ndatasets:\n  - {name: t, source: t, description: One row a thing.}\n";

fn load(text: &str) -> Catalog {
    Catalog::from_sources([("semantic/m/model.yaml".to_owned(), Ok(text.to_owned()))], Vec::new())
}

fn only(catalog: &Catalog) -> &Diagnostic {
    let [found] = catalog.diagnostics.as_slice() else { panic!("{:#?}", catalog.diagnostics) };
    found
}

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    folder
}

#[test]
fn line_ends_and_byte_order_marks_of_other_systems_change_nothing() {
    let marked = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    let folder = folder(&[("m/model.yaml", marked.as_bytes())]);
    let catalog = Catalog::load(folder.path());
    assert_eq!(catalog.diagnostics, vec![]);
    assert_eq!(catalog.models[0].datasets[0].description, "One row a thing.");
    let broken = load(&GOOD.replace("source", "sauce").replace('\n', "\r\n"));
    let found = broken.diagnostics.iter().find(|found| found.rule == "unknown-key").unwrap();
    assert_eq!((found.line, found.column, found.help.as_str()), (4, 15, "did you mean `source`?"));
    assert!(!found.snippet.contains('\r'));
}

#[test]
fn files_that_are_no_text_are_told_with_the_place_and_the_remedy() {
    let cases: [(&[u8], &str, &str); 4] = [
        (b"name: m\nxx: \xff\n", "line 2, column 5 holds the byte 0xff", "UTF-8"),
        (b"\xff\xfen\0a\0", "UTF-16", "UTF-8"),
        (b"name: m\0\n", "NUL", "plain text"),
        (b"name: m\ndatasets:\n\t- a\n", "tab", "spaces"),
    ];
    for (content, message, help) in cases {
        let folder = folder(&[("m/model.yaml", content)]);
        let catalog = Catalog::load(folder.path());
        let found = only(&catalog);
        assert!(found.message.contains(message) && found.help.contains(help), "{found:#?}");
    }
}

#[test]
fn an_empty_file_a_list_and_two_documents_are_told_plainly() {
    for (text, rule) in [
        ("", "empty-file"),
        ("   \n\n", "empty-file"),
        ("# all commented out\n", "empty-file"),
        ("---\n", "empty-file"),
        ("- a\n", "not-a-model"),
        ("just words\n", "not-a-model"),
        ("name: a\n---\nname: b\n", "yaml-syntax"),
        ("name: a\nname: b\n", "yaml-syntax"),
    ] {
        assert_eq!(only(&load(text)).rule, rule, "{text:?}");
    }
    assert!(only(&load("name: a\n---\nname: b\n")).help.contains("---"));
    assert_eq!(only(&load("name: a\ndescription: x\nname: b\n")).line, 3);
}

#[test]
fn a_finding_shows_its_line_with_carets_under_the_word() {
    let catalog = load(&GOOD.replace("source", "sauce"));
    let found = catalog.diagnostics.iter().find(|found| found.rule == "unknown-key").unwrap();
    let shown = found.render();
    assert!(shown.contains("\n 4 |   - {name: t, sauce: t"), "{shown}");
    assert!(shown.contains("\n   |               ^^^^^\n"), "{shown}");
    // Of a line without end, the part round the place.
    let wide = format!("{{\"name\": \"m\", \"description\": \"{}\", \"datsets\": []}}", "é".repeat(5000));
    let catalog = load(&wide);
    let found = catalog.diagnostics.iter().find(|found| found.rule == "unknown-key").unwrap();
    assert!(found.snippet.chars().count() <= 202);
    let lines: Vec<String> = found.render().lines().map(str::to_owned).collect();
    let caret = lines[4].chars().position(|character| character == '^').unwrap();
    let under: String = lines[3].chars().skip(caret).take(found.width() as usize).collect();
    assert_eq!(under, "\"datsets\"");
}

#[test]
fn bombs_and_floods_end_soon_with_an_error() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for level in 1..14 {
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 9].join(",")));
    }
    let deep = format!("name: {}x{}", "[".repeat(100_000), "]".repeat(100_000));
    let nested: String = (0..2_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    let flood = format!("name: m\nsynonyms: [{}]", "1,".repeat(1_500_000));
    let unknown: String = (0..20_000).map(|n| format!("k{n}: 1\n")).collect();
    for text in [&bomb, &deep, &nested, &flood, &unknown] {
        let started = Instant::now();
        let catalog = load(text);
        assert!(catalog.has_errors() && catalog.models.is_empty());
        assert!(catalog.diagnostics.len() <= 1_010, "{}", catalog.diagnostics.len());
        let elapsed = started.elapsed();
        assert!(elapsed < Duration::from_secs(30), "{elapsed:?} for {:?}…", &text[..20]);
    }
    assert!(load(&unknown).diagnostics.iter().any(|found| found.rule == "too-many-findings"));
}

#[test]
fn a_file_of_100_megabytes_is_refused_unread() {
    let folder = folder(&[("m/model.yaml", GOOD.as_bytes()), ("m/large.yaml", b"")]);
    let large = std::fs::File::options().write(true).open(folder.path().join("m/large.yaml")).unwrap();
    large.set_len(100_000_000).unwrap();
    let started = Instant::now();
    let catalog = Catalog::load(folder.path());
    assert!(started.elapsed() < Duration::from_secs(2));
    let found = only(&catalog);
    assert!(
        found.rule == "unreadable-file"
            && found.message.contains("100000000")
            && found.help.contains("split")
    );
    assert!(catalog.models.is_empty(), "the model may be incomplete without it");
}

#[cfg(unix)]
#[test]
fn links_in_circles_pipes_and_dangling_links_end_and_are_told() {
    use std::os::unix::fs::symlink;
    let folder = folder(&[
        ("m/model.yaml", GOOD.as_bytes()),
        ("n/a/model.yaml", GOOD.replace("name: m", "name: n").as_bytes()),
    ]);
    let path = |name: &str| folder.path().join(name);
    for name in ["m/up", "n/a/up", "n/a/again"] {
        symlink(folder.path(), path(name)).unwrap();
    }
    let catalog = Catalog::load(folder.path());
    let names: Vec<&str> = catalog.models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["m", "n"], "{:#?}", catalog.diagnostics);
    let loops = catalog.diagnostics.iter().filter(|found| found.rule == "symlink-loop").count();
    assert_eq!((loops, catalog.diagnostics.len()), (3, 3));

    symlink("/dev/zero", path("m/zero.yaml")).unwrap();
    symlink("nowhere", path("n/a/lost.yaml")).unwrap();
    let catalog = Catalog::load(folder.path());
    let told: Vec<&str> = catalog
        .diagnostics
        .iter()
        .filter(|found| found.rule == "unreadable-file")
        .map(|found| found.message.as_str())
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().any(|message| message.contains("device")), "{told:?}");
}

#[test]
fn a_missing_folder_is_an_empty_catalog_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::load(&folder.path().join("none"));
    assert_eq!(only(&catalog).rule, "unreadable-folder");
    assert!(!catalog.has_errors() && catalog.models.is_empty());
}

#[test]
fn a_reload_keeps_the_last_good_form_of_what_is_broken_and_takes_the_rest() {
    let other = GOOD.replace("name: m", "name: n");
    let folder = folder(&[("m/model.yaml", GOOD.as_bytes()), ("n/model.yaml", other.as_bytes())]);
    let first = Catalog::load(folder.path());
    std::fs::write(folder.path().join("m/model.yaml"), "name: [").unwrap();
    std::fs::write(folder.path().join("n/model.yaml"), other.replace("d is one", "d is two")).unwrap();
    let second = Catalog::load_after(folder.path(), &first);
    assert_eq!(second.stale, ["m"]);
    assert!(std::sync::Arc::ptr_eq(second.model("m").unwrap(), first.model("m").unwrap()));
    assert_eq!(second.model("n").unwrap().description, "d is two.");
    // Also when the mistake is found across files, and over several reloads.
    std::fs::write(
        folder.path().join("m/model.yaml"),
        format!("{GOOD}metrics: [{{name: x, dataset: nope, expression: COUNT(*)}}]\n"),
    )
    .unwrap();
    let third = Catalog::load_after(folder.path(), &second);
    assert_eq!(third.stale, ["m"]);
    std::fs::remove_dir_all(folder.path().join("m")).unwrap();
    let fourth = Catalog::load_after(folder.path(), &third);
    assert_eq!(fourth.models.len(), 1);
    assert!(fourth.stale.is_empty());
}
