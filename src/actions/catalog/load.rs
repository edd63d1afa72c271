//! Reads action files and their documents, and holds the ones against the others.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use indexmap::IndexMap;
use url::Url;

use super::super::diagnostic::{ActionDiagnostic, Severity};
use super::super::file::{ActionFile, Credential, Publish, SpecSource, parse_action_file};
use super::super::name::{OperationName, closest};
use super::super::net::{Clients, check_url, egress_refusal, host_text, root_cause};
use super::super::security::secret::{Environment, SecretRef};
use super::super::security::{check_configured, fits, keys_for};
use super::super::spec::ApiSpec;
use super::super::yaml::Findings;
use super::Api;

/// An action file is not longer.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// A document is not longer.
const MAX_SPEC_BYTES: u64 = 64 << 20;
/// How long a document may take to come.
const SPEC_TIMEOUT: Duration = Duration::from_secs(30);

/// The action files of a folder, by name.
pub async fn action_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut entries = tokio::fs::read_dir(folder).await?;
    let mut paths = Vec::new();
    while let Some(entry) = entries.next_entry().await? {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().to_ascii_lowercase();
        let is_yaml = name.ends_with(".yaml") || name.ends_with(".yml");
        if is_yaml && !name.starts_with('.') && !name.contains(".openapi.") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// An error about a file as a whole.
pub fn about_file(path: &Path, rule: &'static str, message: String, help: &str) -> ActionDiagnostic {
    ActionDiagnostic {
        file: path.display().to_string(),
        line: 0,
        column: 0,
        severity: Severity::Error,
        rule,
        message,
        help: help.to_owned(),
    }
}

/// Makes APIs of files.
pub struct Loader {
    pub clients: Clients,
    pub environment: Environment,
}

impl Loader {
    /// One file with its document; `None` where an error makes the API unusable.
    pub async fn load_file(&self, path: &Path) -> (Option<Api>, Vec<ActionDiagnostic>) {
        let text = match read_text(path, MAX_FILE_BYTES).await {
            Ok(text) => text,
            Err(reason) => {
                return (
                    None,
                    vec![about_file(path, "actions/file", reason, "check the file and its permissions")],
                );
            }
        };
        // `Findings` stays on this side of every await but one, so it is made anew for each part.
        let (file, mut diagnostics) = {
            let findings = Findings::new(path.display().to_string());
            let file = parse_action_file(&text, path, &findings);
            (file, findings.into_list())
        };
        let Some(file) = file else { return (None, diagnostics) };
        let spec = self.load_spec(&file).await;
        let findings = Findings::new(path.display().to_string());
        let api = match spec {
            Ok(spec) => self.assemble(file, path, &text, spec, &findings),
            Err(reason) => {
                findings.error(file.spec_at, "actions/spec", reason, "");
                None
            }
        };
        let failed = findings.has_errors();
        diagnostics.extend(findings.into_list());
        diagnostics.sort_by_key(|finding| (finding.line, finding.column));
        (api.filter(|_| !failed), diagnostics)
    }

    async fn load_spec(&self, file: &ActionFile) -> Result<ApiSpec, String> {
        let text = match &file.spec {
            SpecSource::File(path) => read_text(path, MAX_SPEC_BYTES).await?,
            SpecSource::Url(url) => {
                tokio::time::timeout(SPEC_TIMEOUT, self.fetch_spec(url, file)).await.map_err(|_| {
                    format!("{url} did not send the document in {} s", SPEC_TIMEOUT.as_secs())
                })??
            }
        };
        tokio::task::spawn_blocking(move || ApiSpec::parse(&text))
            .await
            .map_err(|error| format!("reading the document failed: {error}"))?
            .map_err(|error| error.to_string())
    }

    async fn fetch_spec(&self, url: &Url, file: &ActionFile) -> Result<String, String> {
        check_url(url, &file.allow_hosts).map_err(|error| error.to_string())?;
        let client = self.clients.client(&file.allow_hosts, file.limits.connect_timeout).await?;
        let failed = |error: &reqwest::Error| match egress_refusal(error) {
            Some(refusal) => refusal.to_string(),
            None => format!("cannot fetch {url}: {}", root_cause(error)),
        };
        let response = client.get(url.clone()).send().await.map_err(|error| failed(&error))?;
        if response.status().is_redirection() {
            return Err(format!("{url} redirects, which is not followed; give the document's final URL"));
        }
        if !response.status().is_success() {
            return Err(format!("{url} answered {}", response.status().as_u16()));
        }
        let mut bytes = Vec::new();
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            bytes.extend_from_slice(&piece.map_err(|error| failed(&error))?);
            if bytes.len() as u64 > MAX_SPEC_BYTES {
                return Err(format!("the document at {url} is over {MAX_SPEC_BYTES} bytes"));
            }
        }
        String::from_utf8(bytes).map_err(|_| format!("the document at {url} is not UTF-8 text"))
    }

    fn assemble(
        &self,
        file: ActionFile,
        path: &Path,
        text: &str,
        spec: ApiSpec,
        findings: &Findings,
    ) -> Option<Api> {
        let published = publish(&file, &spec, findings);
        let base_override = self.base_override(&file, findings);
        check_credentials(&file, &spec, &self.environment, findings);
        let source = match &file.spec {
            SpecSource::Url(url) => Some(url.clone()),
            SpecSource::File(_) => None,
        };
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let reverse = published.iter().map(|(name, inner)| (inner.clone(), name.clone())).collect();
        let api = Api {
            path: path.display().to_string(),
            spec,
            source,
            base_override,
            published,
            reverse,
            environment: self.environment.clone(),
            fingerprint: hasher.finish(),
            file,
        };
        check_reachable(&api, findings);
        check_security(&api, findings);
        Some(api)
    }

    fn base_override(&self, file: &ActionFile, findings: &Findings) -> Option<Url> {
        let base = file.base_url.as_ref()?;
        let from_environment = base.env.as_deref().and_then(|name| (self.environment)(name));
        let from_environment = from_environment.filter(|value| !value.is_empty());
        let named = match (&base.env, &from_environment) {
            (Some(name), Some(_)) => format!("environment variable {name}"),
            _ => "`base_url`".to_owned(),
        };
        let Some(text) = from_environment.or_else(|| base.default.clone()) else {
            let name = base.env.as_deref().unwrap_or_default();
            findings.warning(
                file.base_url_at,
                "actions/base-url",
                format!("environment variable {name} is not set"),
                "set it, or add a `default`; calls fail until then",
            );
            return None;
        };
        match Url::parse(&text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() => Some(url),
            _ => {
                // Not repeated: a URL of the environment may hold a password.
                findings.error(
                    file.base_url_at,
                    "actions/base-url",
                    format!("{named} is not an http or https URL"),
                    "write it with its scheme, such as https://api.example.org/v1",
                );
                None
            }
        }
    }
}

async fn read_text(path: &Path, max_bytes: u64) -> Result<String, String> {
    let shown = path.display();
    let meta = tokio::fs::metadata(path).await.map_err(|error| format!("cannot read {shown}: {error}"))?;
    if meta.len() > max_bytes {
        return Err(format!("{shown} is over {max_bytes} bytes"));
    }
    let bytes = tokio::fs::read(path).await.map_err(|error| format!("cannot read {shown}: {error}"))?;
    String::from_utf8(bytes).map_err(|_| format!("{shown} is not UTF-8 text"))
}

fn publish(file: &ActionFile, spec: &ApiSpec, findings: &Findings) -> IndexMap<OperationName, OperationName> {
    let listed = match &file.publish {
        Publish::All => return spec.heads().map(|head| (head.name.clone(), head.name.clone())).collect(),
        Publish::Listed(listed) => listed,
    };
    let mut chosen: BTreeMap<OperationName, OperationName> = BTreeMap::new();
    for wanted in listed {
        let Some(inner) = spec.find(&wanted.wanted) else {
            let ids = spec
                .heads()
                .flat_map(|head| [Some(head.name.as_str()), head.operation_id.as_deref()])
                .flatten();
            let help = match closest(&wanted.wanted, ids) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "use an operationId of the document".to_owned(),
            };
            let message = format!("the document has no operation `{}`", wanted.wanted);
            findings.error(wanted.at, "actions/unknown-operation", message, help);
            continue;
        };
        if !wanted.publish {
            continue;
        }
        let name = wanted.rename.clone().unwrap_or_else(|| inner.clone());
        if chosen.values().any(|taken| *taken == name) || chosen.contains_key(inner) {
            let message = format!("operation `{name}` is published twice");
            findings.error(wanted.at, "actions/duplicate-name", message, "rename or remove one of them");
            continue;
        }
        chosen.insert(inner.clone(), name);
    }
    spec.heads().filter_map(|head| Some((chosen.get(&head.name)?.clone(), head.name.clone()))).collect()
}

fn check_credentials(file: &ActionFile, spec: &ApiSpec, environment: &Environment, findings: &Findings) {
    for (name, placed) in &file.credentials {
        let Some(scheme) = spec.schemes().get(name) else {
            let help = match closest(name, spec.schemes().keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None if spec.schemes().is_empty() => "the document defines none".to_owned(),
                None => {
                    let known: Vec<_> = spec.schemes().keys().map(String::as_str).collect();
                    format!("the document defines {}", known.join(", "))
                }
            };
            let message = format!("the document has no security scheme `{name}`");
            findings.error(placed.at, "actions/unknown-scheme", message, help);
            continue;
        };
        if !fits(scheme, &placed.credential) {
            let message = format!("the credential does not fit the security scheme `{name}`");
            findings.error(
                placed.at,
                "actions/credential",
                message,
                format!("it needs {}", keys_for(scheme)),
            );
            continue;
        }
        for reference in references(&placed.credential) {
            if let Err(error) = reference.check(environment) {
                let message = format!("the credential `{name}` is not there: {error}");
                findings.warning(
                    placed.at,
                    "actions/missing-secret",
                    message,
                    "calls that need it fail until then",
                );
            }
        }
    }
}

fn references(credential: &Credential) -> Vec<&SecretRef> {
    match credential {
        Credential::ApiKey { value, .. } => vec![value],
        Credential::Basic { username, password } => vec![username, password],
        Credential::Bearer { token } => vec![token],
        Credential::OAuth(oauth) => [
            Some(&oauth.client_id),
            oauth.client_secret.as_ref(),
            oauth.username.as_ref(),
            oauth.password.as_ref(),
            oauth.refresh_token.as_ref(),
        ]
        .into_iter()
        .flatten()
        .collect(),
    }
}

/// Warns of addresses that every call would be refused for, and of secrets in the clear.
fn check_reachable(api: &Api, findings: &Findings) {
    let base = match (api.published.values().next(), &api.base_override, &api.file.base_url) {
        (_, Some(url), _) => url.clone(),
        // Said already.
        (_, None, Some(_)) => return,
        (Some(operation), None, None) => match api.base_url(operation) {
            Ok(url) => url,
            Err(error) => {
                findings.warning(
                    api.file.base_url_at,
                    "actions/base-url",
                    error.to_string(),
                    "calls fail until then",
                );
                return;
            }
        },
        (None, None, None) => return,
    };
    if let Err(error) = check_url(&base, &api.file.allow_hosts) {
        findings.warning(api.file.base_url_at, "actions/egress", error.to_string(), "calls fail until then");
    }
    let listed = api.file.allow_hosts.contains(&host_text(&base));
    if base.scheme() == "http" && !listed && !api.file.credentials.is_empty() {
        findings.warning(
            api.file.base_url_at,
            "actions/plain-http",
            format!("credentials go to {} unencrypted", host_text(&base)),
            "use an https base_url",
        );
    }
}

/// Warns of published operations that need credentials nobody configured.
fn check_security(api: &Api, findings: &Findings) {
    let mut missing: IndexMap<String, Vec<String>> = IndexMap::new();
    for (name, inner) in &api.published {
        let Some(requirements) = api.spec.requirements(inner) else { continue };
        if let Err(help) = check_configured(api, &requirements) {
            missing.entry(help).or_default().push(name.to_string());
        }
    }
    for (help, operations) in missing {
        let shown = operations.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = match operations.len().saturating_sub(5) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!("no credentials for {shown}{more}");
        findings.warning(api.file.spec_at, "actions/missing-credentials", message, help);
    }
}
