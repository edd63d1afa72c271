use serde_json::json;

use super::super::diagnostic::Severity;
use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        let spec = json!({"openapi": "3.0.0", "info": {"title": "Pets", "version": "1"},
            "servers": [{"url": "https://pets.example.org/v1"}],
            "paths": {
                "/pets": {"get": {"operationId": "listPets", "summary": "All pets"}},
                "/pets/{id}": {"get": {"operationId": "getPet", "summary": "One pet", "security": [{"Key": []}],
                    "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}]}},
            },
            "components": {"securitySchemes": {"Key": {"type": "apiKey", "in": "header", "name": "X-Key"}}}});
        folder.write("pets.openapi.json", &spec.to_string())
    }

    fn write(self, name: &str, text: &str) -> Self {
        std::fs::write(self.0.path().join(name), text).unwrap();
        self
    }

    async fn load(&self) -> (ActionCatalog, Vec<ActionDiagnostic>) {
        let environment: Environment = Arc::new(|name| (name == "PET_KEY").then(|| "s3cret-key".to_owned()));
        let options = LoadOptions { environment, ..LoadOptions::default() };
        ActionCatalog::load_with(self.0.path(), options).await
    }
}

const PETS: &str = "name: pets\ndescription: Pets\nspec: pets.openapi.json\noperations: \"*\"\n";

fn rules(diagnostics: &[ActionDiagnostic]) -> Vec<(&str, u32)> {
    diagnostics.iter().map(|finding| (finding.rule, finding.line)).collect()
}

#[tokio::test]
async fn one_broken_file_takes_no_other_down() {
    let folder = Folder::new()
        .write("a.yaml", "name: [\n")
        .write("b.yaml", "name: b\ndescription: b\nspec: absent.json\noperations: [x]\n")
        .write("pets.yaml", &format!("{PETS}credentials: {{Key: {{value: env:PET_KEY}}}}\n"));
    let (catalog, diagnostics) = folder.load().await;
    assert_eq!(catalog.apis().map(|api| api.name().as_str()).collect::<Vec<_>>(), ["pets"]);
    assert_eq!(diagnostics.iter().map(|d| d.rule).collect::<Vec<_>>(), ["actions/yaml", "actions/spec"]);
    assert_eq!(diagnostics[1].line, 3);
}

#[tokio::test]
async fn unknown_names_get_suggestions() {
    let (catalog, _) = Folder::new().write("pets.yaml", PETS).load().await;
    let error = catalog.api("pet").unwrap_err();
    assert_eq!(error, ActionError::UnknownApi { name: "pet".into(), suggestion: Some("pets".into()) });
    let error = catalog.operation("pets", "getPets").unwrap_err();
    assert!(error.to_string().contains("did you mean `get_pet`?"), "{error}");
}

#[tokio::test]
async fn only_published_operations_are_there_under_their_new_names() {
    let text = PETS.replace("\"*\"", "{getPet: {rename: pet}, listPets: {publish: false}}");
    let (catalog, diagnostics) = Folder::new().write("pets.yaml", &text).load().await;
    assert_eq!(rules(&diagnostics), [("actions/missing-credentials", 3)]);
    assert!(diagnostics[0].help.contains("credentials.Key: {value: env:NAME}"), "{}", diagnostics[0].help);
    let api = catalog.api("pets").unwrap();
    assert_eq!(api.operations().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["pet"]);
    assert_eq!(api.operation("pet").unwrap().head.path, "/pets/{id}");
    assert!(catalog.operation("pets", "list_pets").is_err());
}

#[tokio::test]
async fn names_that_the_document_lacks_are_errors_with_their_line() {
    let text = "name: pets\ndescription: d\nspec: pets.openapi.json\noperations:\n  - getPett\ncredentials:\n  Kei: {value: env:PET_KEY}\n";
    let (catalog, diagnostics) = Folder::new().write("pets.yaml", text).load().await;
    assert_eq!(catalog.apis().count(), 0);
    assert_eq!(rules(&diagnostics), [("actions/unknown-operation", 5), ("actions/unknown-scheme", 7)]);
    assert!(diagnostics.iter().all(|finding| finding.help.starts_with("did you mean")), "{diagnostics:?}");
}

#[tokio::test]
async fn a_credential_that_does_not_fit_its_scheme_is_an_error_and_a_missing_one_a_warning() {
    let with = |credential: &str| format!("{PETS}credentials:\n  Key: {credential}\n");
    let (catalog, diagnostics) = Folder::new().write("pets.yaml", &with("{token: env:PET_KEY}")).load().await;
    assert_eq!((catalog.apis().count(), rules(&diagnostics)), (0, vec![("actions/credential", 6)]));
    let (catalog, diagnostics) = Folder::new().write("pets.yaml", &with("{value: env:ABSENT}")).load().await;
    assert_eq!((catalog.apis().count(), rules(&diagnostics)), (1, vec![("actions/missing-secret", 6)]));
    assert_eq!(diagnostics[0].severity, Severity::Warning);
}

#[tokio::test]
async fn addresses_that_calls_would_be_refused_for_are_warned_of_at_load() {
    for (base, rule) in [
        ("http://10.0.0.1/", Some("actions/egress")),
        ("env:ABSENT", Some("actions/base-url")),
        ("{env: ABSENT, default: \"https://x.example.org\"}", None),
    ] {
        let text = format!("{PETS}base_url: {base}\n").replace("\"*\"", "[listPets]");
        let (catalog, diagnostics) = Folder::new().write("pets.yaml", &text).load().await;
        assert_eq!(catalog.apis().count(), 1);
        assert_eq!(diagnostics.iter().map(|d| d.rule).next(), rule, "{base}");
    }
    let text = format!("{PETS}base_url: not-a-url\n");
    let (catalog, _) = Folder::new().write("pets.yaml", &text).load().await;
    assert_eq!(catalog.apis().count(), 0);
}

#[tokio::test]
async fn operations_are_found_by_words() {
    let (catalog, _) = Folder::new().write("pets.yaml", PETS).load().await;
    let found: Vec<_> =
        catalog.find("one pet").into_iter().map(|found| found.operation.to_string()).collect();
    assert_eq!(found, ["get_pet", "list_pets"]);
}

#[tokio::test]
async fn two_files_of_one_name_leave_the_first() {
    let folder = Folder::new().write("a.yaml", PETS).write("b.yaml", PETS);
    let (catalog, diagnostics) = folder.load().await;
    assert_eq!(catalog.apis().count(), 1);
    assert!(diagnostics.iter().any(|d| d.rule == "actions/duplicate-name" && d.file.ends_with("b.yaml")));
}

#[tokio::test]
async fn a_missing_folder_is_one_finding() {
    let (catalog, diagnostics) = ActionCatalog::load(Path::new("/nowhere/at/all")).await;
    assert_eq!((catalog.apis().count(), rules(&diagnostics)), (0, vec![("actions/folder", 0)]));
}

#[tokio::test]
async fn the_project_s_own_actions_load_without_an_error() {
    let (catalog, diagnostics) = ActionCatalog::load(Path::new("actions")).await;
    assert!(diagnostics.iter().all(|finding| finding.severity == Severity::Warning), "{diagnostics:?}");
    let api = catalog.api("weather").unwrap();
    assert_eq!(
        api.operations().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["get_daily", "get_hourly"]
    );
    assert_eq!(catalog.find("hourly wind and rain")[0].operation.as_str(), "get_hourly");
}
