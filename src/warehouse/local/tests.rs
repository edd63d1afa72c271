//! Files as tables, at the door of the warehouse.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::object_store::ObjectStoreExt;
use datafusion::object_store::path::Path as ObjectPath;
use datafusion::physical_plan::displayable;
use datafusion::prelude::SessionContext;
use parquet::arrow::ArrowWriter;

use super::disk::look;
use super::layout::Layout;
use super::store::Files;
use super::*;
use crate::config::SqlLimits;
use crate::query::QueryEngine;

struct Fixture {
    folder: tempfile::TempDir,
    warehouse: LocalWarehouse,
    state: SessionState,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("root/s")).unwrap();
        let spill = folder.path().join("spill");
        let state = QueryEngine::new(SqlLimits::default(), &spill).unwrap().state().clone();
        let warehouse = LocalWarehouse::new(folder.path().join("root"), state.clone());
        Self { folder, warehouse, state }
    }

    fn path(&self, below: &str) -> PathBuf {
        let path = self.folder.path().join("root/s").join(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn text(&self, below: &str, text: &str) {
        std::fs::write(self.path(below), text).unwrap();
    }

    fn parquet(&self, below: &str, columns: Vec<(&str, ArrayRef)>) {
        write_parquet(&self.path(below), columns);
    }

    async fn context(&self, table: &str) -> Result<SessionContext, WarehouseError> {
        let config = self.state.config().clone();
        let config = config
            .with_create_default_catalog_and_schema(true)
            .with_default_catalog_and_schema("datafusion", "public");
        let context = SessionContext::new_with_config_rt(config, self.state.runtime_env().clone());
        context.register_table("t", self.warehouse.table("s", table, &QueryTag::default()).await?).unwrap();
        Ok(context)
    }

    /// The rows, columns joined by `|`.
    async fn rows(&self, table: &str, sql: &str) -> Result<Vec<String>, String> {
        let context = self.context(table).await.map_err(|error| error.to_string())?;
        let frame = context.sql(sql).await.map_err(|error| error.to_string())?;
        let mut rows = Vec::new();
        for batch in frame.collect().await.map_err(|error| error.to_string())? {
            for row in 0..batch.num_rows() {
                let cells = batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap());
                rows.push(cells.collect::<Vec<_>>().join("|"));
            }
        }
        Ok(rows)
    }

    async fn error(&self, table: &str) -> String {
        self.warehouse.table("s", table, &QueryTag::default()).await.unwrap_err().to_string()
    }
}

fn write_parquet(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .unwrap();
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

#[tokio::test]
async fn folders_that_say_name_and_value_are_typed_columns_and_only_those_asked_for_are_read() {
    let fixture = Fixture::new();
    for (year, month, day) in [(2013, 1, "2013-01-05"), (2013, 2, "2013-02-01"), (2014, 1, "2014-01-09")] {
        let file = format!("f/year={year}/month={month}/day={day}/code=0{month}/a.parquet");
        fixture.parquet(&file, vec![("n", ints(&[year, month]))]);
    }
    let types = "SELECT DISTINCT arrow_typeof(year), arrow_typeof(month), arrow_typeof(day), arrow_typeof(code) FROM t";
    assert_eq!(fixture.rows("f", types).await.unwrap(), ["Int64|Int64|Date32|Utf8"]);
    let sum = "SELECT SUM(n), MAX(day), MAX(code) FROM t WHERE year = 2013 AND month < 2";
    assert_eq!(fixture.rows("f", sum).await.unwrap(), ["2014|2013-01-05|01"]);
    let context = fixture.context("f").await.unwrap();
    let plan = context.sql("SELECT n FROM t WHERE day > DATE '2013-02-15'").await.unwrap();
    let plan = displayable(plan.create_physical_plan().await.unwrap().as_ref()).indent(false).to_string();
    assert!(plan.contains("year=2014") && !plan.contains("year=2013"), "{plan}");
}

#[tokio::test]
async fn folders_are_nested_at_will_and_what_is_hidden_or_empty_is_not_there() {
    let fixture = Fixture::new();
    for (file, number) in [
        ("f/a.parquet", 1),
        ("f/2013/b.parquet", 2),
        ("f/2013/deep/er/c.parquet", 3),
        ("f/_temporary/0/d.parquet", 100),
        ("f/.trash/e.parquet", 100),
        ("f/.f.parquet", 100),
        ("f/2013/_g.parquet", 100),
    ] {
        fixture.parquet(file, vec![("n", ints(&[number]))]);
    }
    fixture.text("f/_SUCCESS", "");
    fixture.text("f/2013/half.parquet", "");
    fixture.text("f/README.md", "about");
    assert_eq!(fixture.rows("f", "SELECT COUNT(*), SUM(n) FROM t").await.unwrap(), ["3|6"]);
    fixture.text("nothing/_SUCCESS", "");
    fixture.text("nothing/a.parquet", "");
    assert!(fixture.error("nothing").await.contains("no table"));
    for name in ["..", "../s/f", "_temporary", ".f", "", "f/2013", "f.parquet", "ü"] {
        let error = fixture.warehouse.table("s", name, &QueryTag::default()).await.unwrap_err();
        assert!(matches!(error, WarehouseError::BadName { .. }), "{name}: {error}");
        assert!(fixture.warehouse.table(name, "f", &QueryTag::default()).await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn files_that_are_not_one_table_are_told_by_name() {
    let fixture = Fixture::new();
    let told = async |table: &str, parts: &[&str]| {
        let error = fixture.error(table).await;
        assert!(parts.iter().all(|part| error.contains(part)), "{table}: {error}");
    };
    fixture.parquet("types/a.parquet", vec![("n", ints(&[1]))]);
    fixture.parquet("types/b.parquet", vec![("n", texts(&["1"]))]);
    told("types", &["s/types/b.parquet", "s/types/a.parquet", "`n`", "Utf8", "Int64"]).await;
    fixture.parquet("more/a.parquet", vec![("n", ints(&[1]))]);
    fixture.parquet("more/b.parquet", vec![("n", ints(&[1])), ("extra", ints(&[1]))]);
    told("more", &["s/more/b.parquet", "`extra`"]).await;
    fixture.parquet("fewer/a.parquet", vec![("n", ints(&[1])), ("m", ints(&[1]))]);
    fixture.parquet("fewer/b.parquet", vec![("n", ints(&[1]))]);
    told("fewer", &["s/fewer/b.parquet", "has no column `m`"]).await;
    fixture.parquet("formats/a.parquet", vec![("n", ints(&[1]))]);
    fixture.text("formats/b.csv", "n\n1\n");
    told("formats", &["s/formats/b.csv", "format"]).await;
    fixture.parquet("keys/year=1/a.parquet", vec![("n", ints(&[1]))]);
    fixture.parquet("keys/b.parquet", vec![("n", ints(&[1]))]);
    told("keys", &["s/keys/", "folders"]).await;
    fixture.parquet("late/x/year=1/a.parquet", vec![("n", ints(&[1]))]);
    told("late", &["s/late/x/year=1/a.parquet", "folders"]).await;
    fixture.parquet("null/k=__HIVE_DEFAULT_PARTITION__/a.parquet", vec![("n", ints(&[1]))]);
    told("null", &["s/null/", "NULL"]).await;
    fixture.parquet("encoded/k=a%20b/a.parquet", vec![("n", ints(&[1]))]);
    told("encoded", &["s/encoded/", "percent"]).await;
    fixture.parquet("both/n=1/a.parquet", vec![("n", ints(&[1]))]);
    told("both", &["s/both/", "`n`", "folder"]).await;
    fixture.text("order/a.csv", "n,m\n1,2\n");
    fixture.text("order/b.csv", "m,n\n1,2\n");
    told("order", &["s/order/b.csv", "order"]).await;
    fixture.text("broken/a.parquet", "this is not Parquet at all");
    told("broken", &["cannot read"]).await;
    // The order of columns is no difference where they go by name.
    fixture.parquet("names/a.parquet", vec![("n", ints(&[1])), ("m", texts(&["x"]))]);
    fixture.parquet("names/b.parquet", vec![("m", texts(&["y"])), ("n", ints(&[2]))]);
    let rows = fixture.rows("names", "SELECT n, m FROM t ORDER BY 1").await.unwrap();
    assert_eq!(rows, ["1|x", "2|y"]);
}

#[tokio::test]
async fn csv_and_ndjson_lie_in_folders_as_parquet_does() {
    let fixture = Fixture::new();
    fixture.text("c/year=2013/a.csv", "n,m\n1,x\n2,\"y\nz\"\n");
    fixture.text("c/year=2014/b.csv", "n,m\n2.5,x\n");
    fixture.text("texts/a.csv", "n\n1\n");
    fixture.text("texts/b.csv", "n\nx\n");
    assert_eq!(fixture.rows("texts", "SELECT n FROM t ORDER BY n").await.unwrap(), ["1", "x"]);
    let sql = "SELECT SUM(n), COUNT(DISTINCT m), MAX(year) FROM t";
    assert_eq!(fixture.rows("c", sql).await.unwrap(), ["5.5|2|2014"]);
    fixture.text("j/a.ndjson", "{\"n\": 1}\n{\"n\": 2, \"m\": \"x\"}\n");
    fixture.text("j/b/c.ndjson", "{\"m\": \"ü\"}\n");
    let rows = fixture.rows("j", "SELECT n, m FROM t ORDER BY n NULLS LAST").await.unwrap();
    assert_eq!(rows, ["1|", "2|x", "|ü"]);
    fixture.text("kinds/a.ndjson", "{\"n\": 1}\n");
    fixture.text("kinds/b.ndjson", "{\"n\": \"x\"}\n");
    let error = fixture.error("kinds").await;
    assert!(error.contains("s/kinds/b.ndjson") && error.contains("`n`"), "{error}");
}

#[tokio::test]
async fn a_change_of_the_files_shows_in_the_next_query() {
    let fixture = Fixture::new();
    let sum = "SELECT COUNT(*), SUM(n) FROM t";
    fixture.parquet("f/k=1/a.parquet", vec![("n", ints(&[1, 2]))]);
    assert_eq!(fixture.rows("f", sum).await.unwrap(), ["2|3"]);
    fixture.parquet("f/k=1/b.parquet", vec![("n", ints(&[10]))]);
    assert_eq!(fixture.rows("f", sum).await.unwrap(), ["3|13"]);
    fixture.parquet("f/k=2/c.parquet", vec![("n", ints(&[100]))]);
    assert_eq!(fixture.rows("f", sum).await.unwrap(), ["4|113"]);
    std::fs::remove_file(fixture.path("f/k=1/a.parquet")).unwrap();
    assert_eq!(fixture.rows("f", sum).await.unwrap(), ["2|110"]);
    // A value that is no number makes texts of all.
    fixture.parquet("f/k=x/d.parquet", vec![("n", ints(&[1]))]);
    assert_eq!(fixture.rows("f", "SELECT DISTINCT k FROM t ORDER BY k").await.unwrap(), ["1", "2", "x"]);
    // Other columns altogether.
    std::fs::remove_dir_all(fixture.path("f")).unwrap();
    assert!(fixture.error("f").await.contains("no table"));
    fixture.parquet("f.parquet", vec![("m", texts(&["a"]))]);
    assert_eq!(fixture.rows("f", "SELECT * FROM t").await.unwrap(), ["a"]);
    write_parquet(&fixture.path("new.parquet"), vec![("m", texts(&["b", "c"]))]);
    std::fs::rename(fixture.path("new.parquet"), fixture.path("f.parquet")).unwrap();
    assert_eq!(fixture.rows("f", "SELECT * FROM t").await.unwrap(), ["b", "c"]);
}

#[tokio::test]
async fn a_file_that_is_replaced_between_planning_and_reading_gives_one_state_or_an_error() {
    let fixture = Fixture::new();
    fixture.parquet("f.parquet", vec![("n", ints(&[1, 2, 3]))]);
    let context = fixture.context("f").await.unwrap();
    let frame = context.sql("SELECT SUM(n) FROM t WHERE n > 0").await.unwrap();
    let plan = frame.create_physical_plan().await.unwrap();
    let many: Vec<i64> = (0..50_000).collect();
    write_parquet(&fixture.path("g.parquet"), vec![("n", ints(&many))]);
    std::fs::rename(fixture.path("g.parquet"), fixture.path("f.parquet")).unwrap();
    let outcome = datafusion::physical_plan::collect(plan, context.task_ctx()).await;
    if let Ok(batches) = outcome {
        let sum = array_value_to_string(batches[0].column(0), 0).unwrap();
        assert!(["6", "1249975000"].contains(&sum.as_str()), "{sum}");
    }
    assert_eq!(fixture.rows("f", "SELECT SUM(n) FROM t").await.unwrap(), ["1249975000"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_that_leaves_the_root_is_refused_and_one_within_is_followed() {
    use std::os::unix::fs::symlink;
    let fixture = Fixture::new();
    let outside = fixture.folder.path().join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    write_parquet(&outside.join("o.parquet"), vec![("n", ints(&[100]))]);
    fixture.parquet("real.parquet", vec![("n", ints(&[1]))]);
    symlink(fixture.path("real.parquet"), fixture.path("within.parquet")).unwrap();
    assert_eq!(fixture.rows("within", "SELECT n FROM t").await.unwrap(), ["1"]);

    symlink(outside.join("o.parquet"), fixture.path("file.parquet")).unwrap();
    symlink(&outside, fixture.path("folder")).unwrap();
    fixture.parquet("mixed/a.parquet", vec![("n", ints(&[1]))]);
    symlink(&outside, fixture.path("mixed/sub")).unwrap();
    fixture.parquet("one/a.parquet", vec![("n", ints(&[1]))]);
    symlink(outside.join("o.parquet"), fixture.path("one/b.parquet")).unwrap();
    symlink("../../outside/o.parquet", fixture.path("relative.parquet")).unwrap();
    for table in ["file", "folder", "mixed", "one", "relative"] {
        let error = fixture.warehouse.table("s", table, &QueryTag::default()).await.unwrap_err();
        assert!(matches!(error, WarehouseError::Layout(LayoutError::Outside { .. })), "{table}: {error}");
        let text = error.to_string();
        assert!(!text.contains(fixture.folder.path().to_str().unwrap()), "{text}");
    }
    symlink(&outside, fixture.folder.path().join("root/schema")).unwrap();
    let error = fixture.warehouse.table("schema", "o", &QueryTag::default()).await.unwrap_err();
    assert!(matches!(error, WarehouseError::Layout(LayoutError::Outside { .. })), "{error}");
    // A circle ends.
    fixture.parquet("circle/a.parquet", vec![("n", ints(&[1]))]);
    symlink(fixture.path("circle"), fixture.path("circle/again")).unwrap();
    let error = fixture.error("circle").await;
    assert!(error.contains("circle"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_that_is_put_in_the_place_of_a_file_after_planning_is_refused_when_it_is_opened() {
    use std::os::unix::fs::symlink;
    let fixture = Fixture::new();
    let outside = fixture.folder.path().join("o.parquet");
    write_parquet(&outside, vec![("n", ints(&[100, 101]))]);
    // Two values, since a single one is answered from the file's statistics.
    fixture.parquet("f.parquet", vec![("n", ints(&[1, 2]))]);
    let context = fixture.context("f").await.unwrap();
    let frame = context.sql("SELECT n FROM t WHERE n > 0").await.unwrap();
    let plan = frame.create_physical_plan().await.unwrap();
    std::fs::remove_file(fixture.path("f.parquet")).unwrap();
    symlink(&outside, fixture.path("f.parquet")).unwrap();
    let error = datafusion::physical_plan::collect(plan, context.task_ctx()).await.unwrap_err();
    assert!(error.to_string().contains("leaves the warehouse's folder"), "{error}");
    // At the store itself: no way out by name either, and nothing is written.
    let store = Files::on_disk(fixture.folder.path().join("root").canonicalize().unwrap()).unwrap();
    assert!(store.get(&ObjectPath::from("s/f.parquet")).await.is_err());
    assert!(
        ObjectPath::parse("../o.parquet").is_err()
            || store.get(&ObjectPath::from("../o.parquet")).await.is_err()
    );
    assert!(store.put(&ObjectPath::from("s/x.csv"), "n\n1".into()).await.is_err());
    assert!(store.delete(&ObjectPath::from("s/f.parquet")).await.is_err());
}

#[test]
fn the_layout_of_a_thousand_files_is_the_same_at_each_look() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    for at in 0..1000 {
        let part = root.join(format!("s/t/k={}/j={}", at % 20, at % 3));
        std::fs::create_dir_all(&part).unwrap();
        std::fs::write(part.join(format!("{at}.csv")), "n\n1\n").unwrap();
    }
    let seen: Layout = look(&root, &root.join("s/t")).unwrap().unwrap();
    assert_eq!(seen.files.len(), 1000);
    assert!(seen.files.is_sorted_by_key(|file| file.location.clone()));
    assert_eq!(seen.partitions.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["k", "j"]);
    assert_eq!(look(&root, &root.join("s/t")).unwrap().unwrap(), seen);
}

#[tokio::test]
async fn a_lance_dataset_is_a_table_at_its_newest_version_with_filters_pushed_down() {
    let fixture = Fixture::new();
    let folder = fixture.path("").to_str().unwrap().to_owned();
    let batch = |numbers: &[i64], words: &[&str]| {
        RecordBatch::try_from_iter(vec![("n", ints(numbers)), ("m", texts(words))]).unwrap()
    };
    let connection = lancedb::connect(&folder).execute().await.unwrap();
    let table = connection.create_table("l", batch(&[1, 2, 3], &["a", "b", "ü"])).execute().await.unwrap();
    assert_eq!(fixture.rows("l", "SELECT m FROM t WHERE n > 2").await.unwrap(), ["ü"]);
    let context = fixture.context("l").await.unwrap();
    let plan =
        context.sql("SELECT m FROM t WHERE n > 2").await.unwrap().create_physical_plan().await.unwrap();
    let plan = displayable(plan.as_ref()).indent(false).to_string();
    assert!(!plan.contains("FilterExec") && plan.contains("Lance"), "{plan}");
    table.add(batch(&[4], &["d"])).execute().await.unwrap();
    let grouped = "SELECT COUNT(*), SUM(n), MAX(m) FROM t WHERE m <> 'ü'";
    assert_eq!(fixture.rows("l", grouped).await.unwrap(), ["3|7|d"]);
    std::fs::create_dir_all(fixture.path("empty.lance/data")).unwrap();
    let error = fixture.error("empty").await;
    assert!(error.contains("s/empty.lance") && !error.contains(&folder), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_lance_dataset_with_a_link_that_leaves_the_root_is_refused() {
    use std::os::unix::fs::symlink;
    let fixture = Fixture::new();
    let outside = fixture.folder.path().join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    let batch = RecordBatch::try_from_iter(vec![("n", ints(&[1]))]).unwrap();
    let connection = lancedb::connect(outside.to_str().unwrap()).execute().await.unwrap();
    connection.create_table("l", batch).execute().await.unwrap();
    symlink(outside.join("l.lance"), fixture.path("l.lance")).unwrap();
    std::fs::create_dir_all(fixture.path("part.lance")).unwrap();
    for entry in std::fs::read_dir(outside.join("l.lance")).unwrap() {
        let name = entry.unwrap().file_name();
        symlink(outside.join("l.lance").join(&name), fixture.path("part.lance").join(&name)).unwrap();
    }
    for table in ["l", "part"] {
        let error = fixture.warehouse.table("s", table, &QueryTag::default()).await.unwrap_err();
        assert!(matches!(error, WarehouseError::Layout(LayoutError::Outside { .. })), "{table}: {error}");
    }
}

#[tokio::test]
async fn a_lance_dataset_with_rows_in_another_folder_is_refused() {
    let fixture = Fixture::new();
    let outside = fixture.folder.path().join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    let batch = RecordBatch::try_from_iter(vec![("n", ints(&[1]))]).unwrap();
    let connection = lancedb::connect(outside.to_str().unwrap()).execute().await.unwrap();
    connection.create_table("l", batch).execute().await.unwrap();
    let connection = lancedb::connect(fixture.path("").to_str().unwrap()).execute().await.unwrap();
    connection.clone_table("clone", outside.join("l.lance").to_str().unwrap()).execute().await.unwrap();
    let error = fixture.error("clone").await;
    assert!(error.contains("`s/clone.lance` is a clone"), "{error}");
    assert!(!error.contains("outside"), "{error}");
}

const ROWS: &str = "zip,n\n01234,1\n99999,2\n";

/// `ROWS` as the four tools write it.
fn packed() -> [(&'static str, Vec<u8>); 4] {
    use base64::Engine as _;
    let bytes = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    [
        ("gz", bytes("H4sIAAAAAAACA6vKLNDJ4zIwNDI20THksgQBHSMuAHujTawWAAAA")),
        ("zst", bytes("KLUv/QRYsQAAemlwLG4KMDEyMzQsMQo5OTk5OSwyCnzDc+0=")),
        ("bz2", bytes("QlpoOTFBWSZTWQuvn4IAAArZgCAQAAR8IAAhQBAgACIRpsjRCAaAKQNzhq+EpONGx8XckU4UJALr5+CA")),
        (
            "xz",
            bytes(
                "/Td6WFoAAATm1rRGAgAhARYAAAB0L+WjAQAVemlwLG4KMDEyMzQsMQo5OTk5OSwyCgAAAHz6CALWjpE/AAEuFlYJVd8ftvN9AQAAAAAEWVo=",
            ),
        ),
    ]
}

#[tokio::test]
async fn compressed_text_is_read_in_every_packing_and_mixed_with_plain_files() {
    let fixture = Fixture::new();
    for (packing, content) in packed() {
        std::fs::write(fixture.path(&format!("{packing}.csv.{packing}")), &content).unwrap();
        let rows = fixture.rows(packing, "SELECT zip, n FROM t ORDER BY n").await.unwrap();
        assert_eq!(rows, ["01234|1", "99999|2"], "{packing}");
        assert_eq!(fixture.rows(packing, "SELECT count(*) FROM t").await.unwrap(), ["2"], "{packing}");
        std::fs::write(fixture.path(&format!("all/k={packing}/a.csv.{packing}")), &content).unwrap();
    }
    fixture.text("all/k=plain/a.csv", ROWS);
    let rows = fixture.rows("all", "SELECT sum(n), count(DISTINCT k), min(zip) FROM t").await.unwrap();
    assert_eq!(rows, ["15|5|01234"]);
    std::fs::write(fixture.path("p.parquet.gz"), "x").unwrap();
    assert!(fixture.error("p").await.contains("no table"));
}

#[tokio::test]
async fn a_compressed_file_that_ends_too_early_is_an_error_and_never_some_of_its_rows() {
    let fixture = Fixture::new();
    for (packing, content) in packed() {
        for end in [content.len() / 2, content.len() - 1] {
            std::fs::write(fixture.path(&format!("{packing}.csv.{packing}")), &content[..end]).unwrap();
            let outcome = fixture.rows(packing, "SELECT count(n) FROM t").await;
            let error = outcome.expect_err(&format!("{packing} of {end} bytes"));
            assert!(error.contains(&format!("s/{packing}.csv.{packing}")), "{packing}: {error}");
        }
    }
}

#[tokio::test]
async fn a_declared_type_wins_over_what_the_first_rows_look_like_and_two_datasets_may_differ() {
    let fixture = Fixture::new();
    let mut text = "id,zip,day,amount\n".to_owned();
    text.extend((0..2_000).map(|at| format!("{at},{},2020-01-01,1\n", 10_000 + at)));
    text.push_str("x7,ABC,2020-01-02,2.5\n");
    fixture.text("late.csv", &text);
    let types = async |declared: &[(&str, &str)]| {
        let pairs = declared.iter().map(|(name, datatype)| ((*name).to_owned(), (*datatype).to_owned()));
        let declared: Declared = pairs.collect();
        let table = fixture.warehouse.table_as("s", "late", &declared, &QueryTag::default()).await.unwrap();
        table.schema().fields().iter().map(|field| field.data_type().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(types(&[]).await, ["Int64", "Int64", "Date32", "Int64"]);
    let strings = [("id", "String"), ("zip", "String"), ("day", "String"), ("amount", "Float")];
    assert_eq!(types(&strings).await, ["Utf8", "Utf8", "Utf8", "Float64"]);
    assert_eq!(types(&[("id", "Float")]).await, ["Float64", "Int64", "Date32", "Int64"]);
    assert_eq!(types(&[]).await, ["Int64", "Int64", "Date32", "Int64"]);
    fixture.text("zeros.csv", "zip,long,plain\n01234,99999999999999999999,0\n1,1,10\n");
    let sql = "SELECT arrow_typeof(zip), arrow_typeof(long), arrow_typeof(plain) FROM t LIMIT 1";
    assert_eq!(fixture.rows("zeros", sql).await.unwrap(), ["Utf8|Utf8|Int64"]);
}
