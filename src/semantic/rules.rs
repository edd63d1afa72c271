//! The rules that semantic files are checked by, each with an example that breaks it and one that keeps it.
//!
//! R1 Every rule id that a finding about semantic files can carry is in this list; the examples are tests, and
//! `docs/rules.md` is made from it.

use std::fmt::Write as _;

use super::diagnostic::Severity;

/// One rule.
#[derive(Debug)]
pub struct Rule {
    /// As findings carry it.
    pub id: &'static str,
    pub severity: Severity,
    /// Who finds it.
    pub found: Found,
    /// What it demands and why, in a sentence or two.
    pub summary: &'static str,
    /// Files that break it: the text of one, or of several behind lines `# file: <name>`.
    pub failing: &'static str,
    /// The same, mended.
    pub passing: &'static str,
}

/// Where a rule is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Whenever files are loaded.
    Loading,
    /// By `steward check`, which also looks at the data.
    Checking,
    /// Whenever files are loaded; what breaks it is no text that could be shown.
    Reading,
}

/// The rule of this id.
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

/// The files of an example: `(name, text)`.
pub fn example_files(example: &str) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = Vec::new();
    for line in example.lines() {
        if let Some(name) = line.strip_prefix("# file: ") {
            files.push((name.to_owned(), String::new()));
            continue;
        }
        if files.is_empty() {
            files.push(("semantic/shop/model.yaml".to_owned(), String::new()));
        }
        if let Some((_, text)) = files.last_mut() {
            text.push_str(line);
            text.push('\n');
        }
    }
    files
}

/// `docs/rules.md`.
pub fn rules_document() -> String {
    let mut text = String::from(
        "# Rules of the semantic files\n\n\
         Made from `src/semantic/rules.rs`, whose examples are tests. An error keeps its model from being served (on a \
         reload, the last good form stays); a warning does not. `steward check` tells all of them at once, as text, JSON or \
         SARIF; `--deny-warnings` makes warnings count.\n\n\
         | rule | severity | demands |\n|---|---|---|\n",
    );
    for rule in RULES {
        let _ =
            writeln!(text, "| [`{0}`](#{0}) | {1} | {2} |", rule.id, rule.severity.as_str(), rule.summary);
    }
    for rule in RULES {
        let _ = write!(text, "\n## {}\n\n{}: {}", rule.id, capitalised(rule.severity.as_str()), rule.summary);
        text.push_str(match rule.found {
            Found::Checking => " Found by `steward check`, which looks at the data.",
            Found::Loading | Found::Reading => "",
        });
        text.push('\n');
        if rule.found != Found::Reading {
            let _ = write!(text, "\nBreaks it:\n\n```yaml\n{}\n```\n", rule.failing.trim_end());
            let _ = write!(text, "\nKeeps it:\n\n```yaml\n{}\n```\n", rule.passing.trim_end());
        }
    }
    text
}

fn capitalised(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().into_iter().flat_map(char::to_uppercase).chain(characters).collect()
}

const fn error(
    id: &'static str,
    summary: &'static str,
    failing: &'static str,
    passing: &'static str,
) -> Rule {
    Rule { id, severity: Severity::Error, found: Found::Loading, summary, failing, passing }
}

const fn warning(
    id: &'static str,
    summary: &'static str,
    failing: &'static str,
    passing: &'static str,
) -> Rule {
    Rule { severity: Severity::Warning, ..error(id, summary, failing, passing) }
}

const fn reading(id: &'static str, severity: Severity, summary: &'static str) -> Rule {
    Rule { severity, found: Found::Reading, ..error(id, summary, "", "") }
}

const fn checking(
    id: &'static str,
    summary: &'static str,
    failing: &'static str,
    passing: &'static str,
) -> Rule {
    Rule { found: Found::Checking, ..error(id, summary, failing, passing) }
}

/// All rules, those of the file itself first.
pub const RULES: &[Rule] = &[
    reading(
        "unreadable-file",
        Severity::Error,
        "A file is plain UTF-8 text of at most 16 MiB that the service may read; it is no device and no pipe.",
    ),
    reading(
        "unreadable-folder",
        Severity::Error,
        "The semantic folder and the folders in it can be listed; a missing semantic folder is a warning.",
    ),
    reading(
        "symlink-loop",
        Severity::Warning,
        "A folder is read once, however many links lead to it; a link to a folder that is read already is left out.",
    ),
    reading(
        "too-many-findings",
        Severity::Error,
        "Of each file, a thousand errors and a thousand warnings are listed, and the rest is counted.",
    ),
    error("empty-file", "A file holds a model, or a part of one.", "# nothing but a comment\n", ORDERS),
    error(
        "yaml-syntax",
        "A file is one YAML or JSON document without duplicate keys, NUL bytes, deep nesting or alias bombs.",
        "name: shop\ndatasets: [orders\n",
        ORDERS,
    ),
    error(
        "not-a-model",
        "A file holds a mapping with the keys of a model.",
        "- orders\n- customers\n",
        ORDERS,
    ),
    error(
        "empty-model",
        "A model has at least one dataset.",
        "name: shop\ndescription: Orders of a shop in Oslo.\n",
        ORDERS,
    ),
    error(
        "unknown-key",
        "Only keys of the format are used, so that a slip of the finger is no silent loss.",
        "name: shop\ndescripton: Orders of a shop in Oslo.\ndatasets:\n  - {name: orders, source: orders, description: One row a purchase.}\n",
        ORDERS,
    ),
    error(
        "missing-key",
        "Every definition has what it cannot do without, such as a dataset's source.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - {name: orders, description: One row a purchase.}\n",
        ORDERS,
    ),
    error(
        "wrong-type",
        "Every value is of its key's kind; numbers and dates that are meant as text stand in quotes.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - {name: orders, source: orders, description: One row a purchase., primary_key: order_id}\n",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    primary_key: [order_id]\n    fields:\n      - {name: order_id, description: Counts up from 1.}\n",
    ),
    error(
        "unknown-value",
        "Where the format lists the values of a key, one of them is used.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - {name: orders, source: orders, description: One row a purchase., sensitivity: secret}\n",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - {name: orders, source: orders, description: One row a purchase., sensitivity: protected}\n",
    ),
    warning(
        "awkward-name",
        "Names have letters, digits, `_`, `-` and inner spaces, at most 128: no scope can name others, and queries must quote them.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - {name: 'orders (new)', source: orders, description: One row a purchase.}\n",
        ORDERS,
    ),
    error(
        "duplicate-name",
        "A name is used once among things of its kind.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - {name: orders, source: orders, description: One row a purchase.}\n  - {name: orders, source: old_orders, description: The same before 2020.}\n",
        ORDERS,
    ),
    warning(
        "name-differs-by-case",
        "Names differ by more than case: SQL tells such names apart only in quotes.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - {name: orders, source: orders, description: One row a purchase.}\n  - {name: Orders, source: old_orders, description: The same before 2020.}\n",
        ORDERS,
    ),
    error(
        "duplicate-model",
        "The files of one model stand in one folder.",
        "# file: semantic/a/model.yaml\nname: shop\ndatasets:\n  - {name: orders, source: orders}\n# file: semantic/b/model.yaml\nname: shop\ndatasets:\n  - {name: customers, source: customers}\n",
        TWO_FILES,
    ),
    error(
        "duplicate-key",
        "What a model has once is set in one of its files.",
        "# file: semantic/shop/a.yaml\nname: shop\ndescription: Orders of a shop.\ndatasets:\n  - {name: orders, source: orders}\n# file: semantic/shop/b.yaml\nname: shop\ndescription: Customers of a shop.\ndatasets:\n  - {name: customers, source: customers}\n",
        TWO_FILES,
    ),
    warning(
        "missing-description",
        "Models, datasets, fields and metrics are described: the description is what an agent goes by.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - {name: orders, source: orders}\n",
        ORDERS,
    ),
    warning(
        "echoing-description",
        "A description says more than the name.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - {name: open_orders, source: orders, description: The open orders.}\n",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - {name: open_orders, source: orders, description: 'One row an order that is paid, but not delivered.'}\n",
    ),
    warning(
        "unmarked-pii",
        "A field whose name looks like personal data says whether it is: `pii: true`, best with a sensitivity, or `pii: false`.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: customers\n    source: customers\n    description: One row a person.\n    fields:\n      - {name: email, description: Where invoices go.}\n",
        MARKED_PII,
    ),
    warning(
        "public-pii",
        "What holds personal data is protected or highly sensitive.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: customers\n    source: customers\n    description: One row a person.\n    fields:\n      - {name: email, description: Where invoices go., pii: true}\n",
        MARKED_PII,
    ),
    error(
        "enum-without-values",
        "A field that is an enum lists all its values.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    fields:\n      - {name: state, description: How far it is., is_enum: true}\n",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    fields:\n      - {name: state, description: How far it is., is_enum: true, sample_values: [paid, sent]}\n",
    ),
    warning(
        "unreadable-source",
        "A source is a table: `warehouse.schema.table`, `schema.table` or `table`. Ossie also allows a query, which is served as metadata but cannot be read.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - {name: orders, source: SELECT * FROM raw WHERE sold, description: One row a purchase.}\n",
        ORDERS,
    ),
    error(
        "bad-expression",
        "Expressions, filters, row filters and masks are single SQL expressions that parse. `steward check` also plans metrics over the data.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    fields:\n      - {name: net, expression: gross - (tax, description: What the shop keeps.}\n",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    fields:\n      - {name: net, expression: gross - tax, description: What the shop keeps.}\n",
    ),
    warning(
        "foreign-expression",
        "An expression has a form in SQL that the embedded engine reads; with forms for other tools alone it is metadata.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    fields:\n      - name: net\n        description: What the shop keeps.\n        expression: {dialects: [{dialect: DAX, expression: '[gross] - [tax]'}]}\n",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    fields:\n      - name: net\n        description: What the shop keeps.\n        expression: {dialects: [{dialect: ANSI_SQL, expression: gross - tax}]}\n",
    ),
    warning(
        "key-without-field",
        "Columns of keys and relationships are fields, so that queries can join by them.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    primary_key: [order_nr]\n    fields:\n      - {name: order_number, description: Counts up from 1.}\n",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    primary_key: [order_number]\n    fields:\n      - {name: order_number, description: Counts up from 1.}\n",
    ),
    error(
        "unknown-dataset",
        "Relationships and metrics name datasets of their model.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - {name: orders, source: orders, description: One row a purchase.}\nmetrics:\n  - {name: purchases, dataset: order, expression: COUNT(*), description: How often somebody bought.}\n",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - {name: orders, source: orders, description: One row a purchase.}\nmetrics:\n  - {name: purchases, dataset: orders, expression: COUNT(*), description: How often somebody bought.}\n",
    ),
    error(
        "unknown-field",
        "Metrics, filters, row filters and masks name fields that exist.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    fields:\n      - {name: amount, description: Price paid in EUR.}\nmetrics:\n  - {name: revenue, dataset: orders, expression: SUM(amout), description: All that was paid.}\n",
        REVENUE,
    ),
    error(
        "unknown-metric",
        "The parts of ratios and derived metrics are metrics of the model.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    fields:\n      - {name: amount, description: Price paid in EUR.}\nmetrics:\n  - {name: revenue, dataset: orders, expression: SUM(amount), description: All that was paid.}\n  - {name: basket, type: ratio, numerator: revenues, denominator: revenue, description: What is paid at a time.}\n",
        REVENUE,
    ),
    error(
        "unknown-relationship",
        "The joins of a metric are relationships of the model.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    fields:\n      - {name: amount, description: Price paid in EUR.}\nmetrics:\n  - {name: revenue, dataset: orders, expression: SUM(amount), description: All that was paid., joins: [buyers]}\n",
        REVENUE,
    ),
    error(
        "metric-keys",
        "A metric has the keys of its type: a ratio both its parts, a cumulative metric one window.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    fields:\n      - {name: amount, description: Price paid in EUR.}\nmetrics:\n  - {name: revenue, dataset: orders, expression: SUM(amount), description: All that was paid., window: 7 days}\n",
        REVENUE,
    ),
    warning(
        "ambiguous-grain",
        "A metric says whose rows it aggregates: by `dataset`, or by qualified columns.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    fields:\n      - {name: amount, description: Price paid in EUR.}\nmetrics:\n  - {name: revenue, expression: SUM(amount), description: All that was paid.}\n",
        REVENUE,
    ),
    error(
        "relationship-arity",
        "A relationship lists as many columns on one side as on the other.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    fields:\n      - {name: shop_id, description: Where.}\n      - {name: buyer_id, description: Who.}\n  - name: buyers\n    source: buyers\n    description: One row a person.\n    primary_key: [buyer_id]\n    fields:\n      - {name: buyer_id, description: Counts up from 1.}\nrelationships:\n  - {name: who, from: orders, to: buyers, from_columns: [shop_id, buyer_id], to_columns: [buyer_id]}\n",
        JOINED,
    ),
    warning(
        "relationship-not-to-key",
        "A relationship goes to a declared key, or joins over it may multiply rows.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    fields:\n      - {name: buyer_id, description: Who.}\n  - name: buyers\n    source: buyers\n    description: One row a person.\n    fields:\n      - {name: buyer_id, description: Counts up from 1.}\nrelationships:\n  - {name: who, from: orders, to: buyers, from_columns: [buyer_id], to_columns: [buyer_id]}\n",
        JOINED,
    ),
    error(
        "bad-claim",
        "In row filters and masks a claim is written {{claims.name}}, where a value stands, without quotes: it becomes a literal.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    access: {row_filter: \"branch = '{{claims.branch}}'\"}\n    fields:\n      - {name: branch, description: Where it was bought.}\n",
        FILTERED,
    ),
    error(
        "bad-policy",
        "Row filters and masks look at one row of their own dataset: no subqueries, no aggregates.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    access: {row_filter: 'branch IN (SELECT branch FROM permitted)'}\n    fields:\n      - {name: branch, description: Where it was bought.}\n",
        FILTERED,
    ),
    error(
        "mask-without-sensitivity",
        "A masked field has a sensitivity: the mask is what those below it see.",
        "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: customers\n    source: customers\n    description: One row a person.\n    fields:\n      - {name: email, description: Where invoices go., pii: true, access: {mask: \"'***'\"}}\n",
        MARKED_PII,
    ),
    checking(
        "bad-source",
        "Sources can be opened, and hold the columns that fields need.",
        "name: air\ndescription: Airlines that fly from New York.\ndatasets:\n  - {name: airlines, source: local.nycflights13.airline, description: One row a carrier.}\n",
        AIRLINES,
    ),
    checking(
        "verified-query",
        "The guard approves of every verified query, and it plans.",
        "name: air\ndescription: Airlines that fly from New York.\ndatasets:\n  - name: airlines\n    source: local.nycflights13.airlines\n    description: One row a company.\n    fields:\n      - {name: carrier, description: Two letter code.}\nverified_queries:\n  - {name: all, question: Which are there?, sql: DELETE FROM air.airlines, verified_by: tests, verified_at: '2026-01-01'}\n",
        AIRLINES,
    ),
];

const ORDERS: &str = "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - {name: orders, source: orders, description: One row a purchase.}\n";

const TWO_FILES: &str = "# file: semantic/shop/a.yaml\nname: shop\ndescription: Orders and customers of a shop.\ndatasets:\n  - {name: orders, source: orders}\n# file: semantic/shop/b.yaml\nname: shop\ndatasets:\n  - {name: customers, source: customers}\n";

const MARKED_PII: &str = "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: customers\n    source: customers\n    description: One row a person.\n    fields:\n      - name: email\n        description: Where invoices go.\n        pii: true\n        sensitivity: protected\n        access: {mask: \"'***'\"}\n";

const REVENUE: &str = "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    fields:\n      - {name: amount, description: Price paid in EUR.}\nmetrics:\n  - {name: revenue, dataset: orders, expression: SUM(amount), description: All that was paid.}\n  - {name: purchases, dataset: orders, expression: COUNT(*), description: How often somebody bought.}\n  - {name: basket, type: ratio, numerator: revenue, denominator: purchases, description: What is paid at a time.}\n";

const JOINED: &str = "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    fields:\n      - {name: buyer_id, description: Who.}\n  - name: buyers\n    source: buyers\n    description: One row a person.\n    primary_key: [buyer_id]\n    fields:\n      - {name: buyer_id, description: Counts up from 1.}\nrelationships:\n  - {name: who, from: orders, to: buyers, from_columns: [buyer_id], to_columns: [buyer_id]}\n";

const FILTERED: &str = "name: shop\ndescription: Orders of a shop in Oslo.\ndatasets:\n  - name: orders\n    source: orders\n    description: One row a purchase.\n    access: {row_filter: 'branch IN ({{claims.branches}})'}\n    fields:\n      - {name: branch, description: Where it was bought.}\n";

const AIRLINES: &str = "name: air\ndescription: Airlines that fly from New York.\ndatasets:\n  - name: airlines\n    source: local.nycflights13.airlines\n    description: One row a company.\n    fields:\n      - {name: carrier, description: Two letter code.}\nverified_queries:\n  - {name: all, question: Which are there?, sql: SELECT a.carrier FROM air.airlines AS a, verified_by: tests, verified_at: '2026-01-01'}\n";
