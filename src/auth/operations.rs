//! The one table of operation → scope. Enforcement, the OpenAPI document, MCP and the docs all read this and nothing else.
//!
//! Pure. Knows scopes and principals; does not know HTTP paths, handlers or SQL.
//! O1 every operation of the engine has exactly one row.
//! O2 a target that cannot be written as a scope never widens anything: the requirement falls back to the scope
//!    without target, which only an unrestricted grant covers.

use crate::auth::error::AuthError;
use crate::auth::principal::Principal;
use crate::auth::scope::Scope;

/// How an operation's scope depends on what it is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetRule {
    /// Any valid token will do.
    AnyToken,
    /// The scope has no target.
    Untargeted,
    /// Applied to one thing, called so (`index`): its name is the target. Asked without one, only a grant for all will do.
    One(&'static str),
    /// Entered by a grant for any target; each thing named inside (`model.dataset`) is then required by itself,
    /// and what the caller may not see is left out.
    Each(&'static str),
}

macro_rules! operations {
    ($($variant:ident, $name:literal, $scope:literal, $rule:expr, $description:literal;)*) => {
        /// Everything that a principal can ask the engine to do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Operation { $(#[doc = $description] $variant,)* }

        impl Operation {
            /// All operations, in the order of the documents.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable name, in snake_case: OpenAPI operation id, MCP tool name and audit value.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for documents and tool lists.
            pub fn description(self) -> &'static str {
                match self { $(Self::$variant => $description,)* }
            }

            /// How the required scope depends on the target.
            pub fn target_rule(self) -> TargetRule {
                match self { $(Self::$variant => $rule,)* }
            }

            fn scope_text(self) -> &'static str {
                match self { $(Self::$variant => $scope,)* }
            }
        }
    };
}

use TargetRule::{AnyToken, Each, One, Untargeted};

operations! {
    Me, "me", "", AnyToken, "Who the token says that you are, and what you may do.";
    ListModels, "list_models", "semantic:read", Untargeted, "List the semantic models.";
    GetModel, "get_model", "semantic:read", Untargeted, "Fetch one semantic model.";
    ListDatasets, "list_datasets", "semantic:read", Untargeted, "List the datasets that you may see.";
    GetDataset, "get_dataset", "semantic:read", Untargeted, "Fetch one dataset with its fields.";
    ListMetrics, "list_metrics", "semantic:read", Untargeted, "List the metrics.";
    GetMetric, "get_metric", "semantic:read", Untargeted, "Fetch one metric.";
    ListRelationships, "list_relationships", "semantic:read", Untargeted, "List how datasets join.";
    GetRelationship, "get_relationship", "semantic:read", Untargeted, "Fetch one relationship.";
    ListVerifiedQueries, "list_verified_queries", "semantic:read", Untargeted, "List questions with SQL that a person has verified.";
    GetVerifiedQuery, "get_verified_query", "semantic:read", Untargeted, "Fetch one verified query.";
    Link, "link", "semantic:read", Untargeted, "Turn a question into the ranked context needed to write its SQL.";
    Compile, "compile", "sql:generate", Untargeted, "Compile a metric query to SQL.";
    SqlGenerate, "sql_generate", "sql:generate", Untargeted, "Generate checked SQL from a question.";
    SqlCheck, "sql_check", "sql:generate", Untargeted, "Say whether SQL would be run, in which secured form, and with which scopes.";
    SqlRun, "sql_run", "sql:run", Each("model.dataset"), "Run guarded SQL.";
    ListActions, "list_actions", "actions:read", Untargeted, "List the operations of external APIs.";
    GetAction, "get_action", "actions:read", Untargeted, "Fetch one external operation with its argument schema.";
    CallAction, "call_action", "actions:call", One("api.operation"), "Call an operation of an external API.";
    ListIndexes, "list_indexes", "rag:read", Each("index"), "List the document indexes that you may read.";
    IngestDocument, "ingest_document", "rag:write", One("index"), "Store a document, chunk it and index it.";
    ListDocuments, "list_documents", "rag:read", One("index"), "List the documents of an index.";
    GetDocument, "get_document", "rag:read", One("index"), "Fetch what is known about one document.";
    GetDocumentContent, "get_document_content", "rag:read", One("index"), "Page through a document, or fetch the part at a JSON Pointer.";
    DeleteDocument, "delete_document", "rag:write", One("index"), "Delete a document and its chunks.";
    Search, "search", "rag:read", One("index"), "Search the chunks of an index.";
    ListClients, "list_clients", "admin:clients", Untargeted, "List the clients.";
    GetClient, "get_client", "admin:clients", Untargeted, "Fetch one client, with what is known about its secrets.";
    CreateClient, "create_client", "admin:clients", Untargeted, "Register a client with scopes that you hold yourself; its secret is shown once.";
    UpdateClient, "update_client", "admin:clients", Untargeted, "Change a client's name, scopes, claims or registration; taking scopes away or changing claims ends its tokens.";
    RotateClientSecret, "rotate_client_secret", "admin:clients", Untargeted, "Make a new secret for a client; the old one goes on working for the overlap.";
    DisableClient, "disable_client", "admin:clients", Untargeted, "Lock a client out; its tokens end at once.";
    EnableClient, "enable_client", "admin:clients", Untargeted, "Let a disabled client in again.";
    DeleteClient, "delete_client", "admin:clients", Untargeted, "Delete a client; its tokens end at once, what it did stays in the audit.";
    ListUsers, "list_users", "admin:users", Untargeted, "List the users.";
    GetUser, "get_user", "admin:users", Untargeted, "Fetch one user.";
    CreateUser, "create_user", "admin:users", Untargeted, "Register a user with scopes that you hold yourself; a password that is made for it is shown once.";
    UpdateUser, "update_user", "admin:users", Untargeted, "Change a user's display name, scopes or claims; taking scopes away or changing claims ends its tokens and logins.";
    SetUserPassword, "set_user_password", "admin:users", Untargeted, "Give a user another password; its tokens and logins end at once.";
    DisableUser, "disable_user", "admin:users", Untargeted, "Lock a user out; its tokens and logins end at once.";
    EnableUser, "enable_user", "admin:users", Untargeted, "Let a disabled user in again.";
    DeleteUser, "delete_user", "admin:users", Untargeted, "Delete a user; its tokens and logins end at once, what it did stays in the audit.";
    ListKeys, "list_keys", "admin:keys", Untargeted, "List the signing keys with their states.";
    RotateKeys, "rotate_keys", "admin:keys", Untargeted, "Sign with the next key from now on, and retire the active one.";
    ListAuditEvents, "list_audit_events", "admin:audit", Untargeted, "Read who did what, when and with what outcome.";
    AuthTestProtected, "auth_test_protected", "protected", Untargeted, "Example: an answer for holders of the scope protected.";
    AuthTestProtectedPost, "auth_test_protected_post", "protected", Untargeted, "Example: turn a message into a haiku, for holders of the scope protected.";
    AuthTestHighlyConfidential, "auth_test_highly_confidential", "highly_sensitive", Untargeted, "Example: an answer for holders of the scope highly_sensitive.";
}

impl Operation {
    /// The operation of that [`Self::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|operation| operation.name() == name)
    }

    /// The scope that this operation requires on `target`; `None` where any valid token will do.
    /// A target that the operation does not take is ignored; one that no scope can name gives the untargeted scope (O2).
    pub fn required_scope(self, target: Option<&str>) -> Option<Scope> {
        let scope: Scope = match self.target_rule() {
            AnyToken => return None,
            _ => self.scope_text().parse().expect("the table holds valid scopes, as a test shows"),
        };
        match (self.target_rule(), target) {
            (One(_) | Each(_), Some(target)) => Some(scope.with_target(target).unwrap_or(scope)),
            _ => Some(scope),
        }
    }

    /// Refuses unless the principal may do this to `target`. Without a target, an [`TargetRule::Each`] operation
    /// may be entered by any grant of its verb: its parts must then be authorised one by one.
    pub fn authorize(self, principal: &Principal, target: Option<&str>) -> Result<(), AuthError> {
        let Some(required) = self.required_scope(target) else { return Ok(()) };
        match (self.target_rule(), target) {
            (Each(_), None) => principal.require_some_target(&required),
            _ => principal.require(&required),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::auth::scope::{KNOWN_SCOPES, ScopeSet, TargetShape};

    #[test]
    fn every_required_scope_is_grantable_and_takes_a_target_where_the_operation_does() {
        for operation in Operation::ALL {
            let Some(scope) = operation.required_scope(None) else { continue };
            let known = KNOWN_SCOPES.iter().find(|known| known.name == scope.as_str()).unwrap();
            match (operation.target_rule(), known.target) {
                (AnyToken | Untargeted, TargetShape::None) => {}
                (One(name) | Each(name), TargetShape::Exactly(_, shape) | TargetShape::AtLeast(_, shape)) => {
                    assert_eq!(name, shape, "{operation:?}");
                }
                mismatch => panic!("{operation:?}: {mismatch:?}"),
            }
        }
    }

    #[test]
    fn names_are_unique_snake_case_and_lead_back() {
        let names: HashSet<_> = Operation::ALL.iter().map(|operation| operation.name()).collect();
        assert_eq!(names.len(), Operation::ALL.len());
        for operation in Operation::ALL {
            assert_eq!(Operation::from_name(operation.name()), Some(*operation));
            assert!(operation.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert!(operation.description().ends_with('.'));
        }
    }

    fn principal(scopes: &str) -> Principal {
        Principal::local("test").with_scopes(scopes.parse::<ScopeSet>().unwrap())
    }

    #[test]
    fn a_target_that_no_scope_can_name_needs_an_unrestricted_grant() {
        for target in ["", "a b", "a:b", "../x", "a..b", "fli*"] {
            assert!(
                Operation::Search.authorize(&principal("rag:read:*"), Some(target)).is_err(),
                "{target:?}"
            );
            assert!(Operation::Search.authorize(&principal("rag:read"), Some(target)).is_ok());
        }
        let star = Operation::Search.authorize(&principal("rag:read:notes"), Some("*"));
        assert!(star.is_err(), "a thing called * is not everything");
    }

    #[test]
    fn listing_is_entered_by_any_grant_of_the_verb_but_acting_on_all_is_not() {
        let narrow = principal("rag:read:notes sql:run:flights.airports");
        Operation::ListIndexes.authorize(&narrow, None).unwrap();
        Operation::SqlRun.authorize(&narrow, None).unwrap();
        Operation::SqlRun.authorize(&narrow, Some("flights.airports")).unwrap();
        assert!(Operation::SqlRun.authorize(&narrow, Some("flights.planes")).is_err());
        assert!(Operation::Search.authorize(&narrow, None).is_err());
        assert!(Operation::IngestDocument.authorize(&narrow, Some("notes")).is_err());
        assert!(Operation::ListIndexes.authorize(&principal("semantic:read"), None).is_err());
    }

    #[test]
    fn a_token_without_scopes_may_do_nothing_but_ask_who_it_is() {
        let nobody = principal("");
        let allowed: Vec<_> =
            Operation::ALL.iter().filter(|operation| operation.authorize(&nobody, None).is_ok()).collect();
        assert_eq!(allowed, [&Operation::Me]);
    }
}
