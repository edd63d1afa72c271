//! The HTTP door: poem-openapi handlers that map, call the engine, and map back.
//!
//! The only place that knows status codes. A1 No handler decides about access: the engine does.
//! A2 Every error leaves as problem+json (RFC 9457), those of the OAuth endpoints as RFC 6749 has them.
//! A3 Of what a caller sends, the method and the path reach the log: no token, query string, SQL, argument or document text.

mod actions;
mod admin;
mod auth_test;
mod authorize;
mod caller;
mod compile;
mod document;
mod generate;
mod hang_up;
mod health;
mod metadata;
mod middleware;
mod oauth;
mod problem;
mod rag;
mod semantics;
mod sql;
mod sql_stream;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use poem::http::HeaderValue;
use poem::listener::{Acceptor, TcpAcceptor};
use poem::{Endpoint, EndpointExt, Route, Server, get, post};
use poem_openapi::{LicenseObject, OpenApiService, Tags};

use crate::engine::Engine;
use hang_up::{Connections, NotingAcceptor};

/// Groups of the OpenAPI document.
#[derive(Tags)]
pub(crate) enum ApiTag {
    /// Who the caller is.
    Identity,
    /// What the data means.
    Semantics,
    /// Guarded SQL.
    Sql,
    /// External APIs.
    Actions,
    /// Documents and retrieval.
    Rag,
    /// Clients, users, signing keys, the audit log.
    Admin,
    /// An example of an API behind the built-in tokens: open, protected, highly confidential.
    AuthTest,
}

type Service = OpenApiService<
    (metadata::Api, SemanticApis, SqlApis, actions::Api, rag::Api, AdminApis, auth_test::Api),
    (),
>;
type SqlApis = (sql::Api, generate::Api);
type AdminApis = (admin::clients::Api, admin::users::Api, admin::keys::Api, admin::audit::Api);
type SemanticApis = (semantics::Api, compile::Api);

fn service(engine: &Arc<Engine>) -> Service {
    let apis = (
        metadata::Api(engine.clone()),
        (semantics::Api(engine.clone()), compile::Api(engine.clone())),
        (sql::Api(engine.clone()), generate::Api(engine.clone())),
        actions::Api(engine.clone()),
        rag::Api(engine.clone()),
        (
            admin::clients::Api(engine.clone()),
            admin::users::Api(engine.clone()),
            admin::keys::Api(engine.clone()),
            admin::audit::Api(engine.clone()),
        ),
        auth_test::Api(engine.clone()),
    );
    OpenApiService::new(apis, "Steward", env!("CARGO_PKG_VERSION"))
        .summary("A data steward for AI agents")
        .description(
            "What the data means, the right slice of large API responses, and SQL only as far as your OAuth2 scopes \
             allow. Get a token from /oauth/token with your client's credentials. Errors are problem+json (RFC 9457).",
        )
        .license(LicenseObject::new("Apache-2.0"))
        .server(engine.config().public_url())
}

/// The OpenAPI 3.0 document.
pub fn openapi_document(engine: &Arc<Engine>) -> String {
    document::document(&service(engine), engine, document::TokenUrl::Joined)
}

/// All routes with their middleware.
pub fn routes(engine: Arc<Engine>) -> impl Endpoint {
    if let Some(auth) = engine.auth() {
        // The first engine of the process wins; there is one outside tests, and there all share an issuer's form.
        let _ = caller::METADATA_URL.set(auth.issuer().resource_metadata_url());
    }
    let transport_security = engine.config().strict_transport_security().map(HeaderValue::from_static);
    let v1 = service(&engine);
    let document = document::document(&v1, &engine, document::TokenUrl::Joined);
    Route::new()
        .nest("/docs", document::page(&v1, &engine))
        .at("/openapi.json", get(middleware::json_document(document)))
        .at("/oauth/authorize", get(authorize::authorize))
        .at("/authorize", get(authorize::authorize))
        .at("/oauth/login", get(authorize::lost).post(authorize::log_in))
        .at("/oauth/consent", get(authorize::lost).post(authorize::consent))
        .at("/oauth/logout", get(authorize::log_out_page).post(authorize::log_out))
        .at("/oauth/token", post(oauth::token))
        .at("/token", post(oauth::token))
        .at("/oauth/introspect", post(oauth::introspect))
        .at("/introspect", post(oauth::introspect))
        .at("/oauth/revoke", post(oauth::revoke))
        .at("/revoke", post(oauth::revoke))
        .at("/oauth/jwks", get(oauth::jwks))
        .at("/jwks", get(oauth::jwks))
        .at("/.well-known/jwks.json", get(oauth::jwks))
        .at("/.well-known/oauth-authorization-server", get(oauth::authorization_server))
        .at("/.well-known/oauth-protected-resource", get(oauth::protected_resource))
        .at("/health/live", get(health::live))
        .at("/health/ready", get(health::ready))
        .at("/", get(health::front))
        .nest_no_strip("/v1", v1)
        .nest_no_strip("/admin/api", service(&engine))
        .catch_all_error(problem::from_framework)
        .around(middleware::limit_body)
        .data(engine)
        .around(move |endpoint, request| {
            middleware::request_id(endpoint, request, transport_security.clone())
        })
}

/// A bound listener; the address is known before the first request.
pub struct BoundServer {
    acceptor: TcpAcceptor,
    address: std::net::SocketAddr,
}

impl BoundServer {
    /// Takes the configured address, or says why it cannot.
    pub async fn bind(listen: std::net::SocketAddr) -> std::io::Result<Self> {
        let listener = std::net::TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { acceptor: TcpAcceptor::from_std(listener)?, address })
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// Serves until `shutdown` completes; requests under way have ten seconds to finish.
    pub async fn run(
        self,
        engine: Arc<Engine>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> std::io::Result<()> {
        debug_assert!(!self.acceptor.local_addr().is_empty());
        let connections = Connections::default();
        let noted = connections.clone();
        let routes = routes(engine)
            .around(move |endpoint, request| hang_up::until_hung_up(endpoint, request, noted.clone()));
        Server::new_with_acceptor(NotingAcceptor { inner: self.acceptor, connections })
            .name("steward")
            .idle_timeout(Duration::from_secs(75))
            .run_with_graceful_shutdown(routes, shutdown, Some(Duration::from_secs(10)))
            .await
    }
}

/// Binds the configured address and serves until `shutdown` completes.
pub async fn serve(
    engine: Arc<Engine>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    BoundServer::bind(engine.config().server.listen).await?.run(engine, shutdown).await
}
