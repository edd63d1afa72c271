//! Liveness, readiness, and a page that says where to go.

use std::sync::Arc;

use poem::http::StatusCode;
use poem::web::{Data, Html, Json};
use poem::{IntoResponse, Response, handler};
use serde_json::json;

use crate::engine::Engine;
use crate::rag::EmbedderState;

#[handler]
pub fn live() -> Json<serde_json::Value> {
    Json(json!({"status": "ok"}))
}

/// Ready as soon as requests can be answered; what is degraded is named, without details that only operators may see.
#[handler]
pub async fn ready(engine: Data<&Arc<Engine>>) -> Response {
    let database = sqlx::query("SELECT 1").execute(engine.store().pool()).await.is_ok();
    let embedding = match engine.rag().map(|rag| rag.embedder_state()) {
        Ok(EmbedderState::Ready { .. }) => "ready",
        Ok(EmbedderState::Loading | EmbedderState::NotLoaded) => "loading",
        Ok(EmbedderState::Failed { .. }) => "failed",
        Err(_) => "off",
    };
    let semantic = engine.semantic_state();
    let status = if database { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "status": if database { "ready" } else { "unavailable" },
        "database": if database { "ok" } else { "does not answer" },
        "embedding_model": embedding,
        "semantic_errors": semantic.errors,
        // Served as before their last edit, which is broken; semantic.diagnostics says why.
        "semantic_stale_models": semantic.stale,
    });
    Json(body).with_status(status).into_response()
}

#[handler]
pub fn front() -> Html<&'static str> {
    Html(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Steward</title>\
         <style>body{font:16px/1.5 system-ui;max-width:40rem;margin:4rem auto;padding:0 1rem}</style>\
         <h1>Steward</h1><p>A data steward for AI agents: what the data means, the right slice of large API responses, \
         and SQL only as far as OAuth2 scopes allow.</p>\
         <ul><li><a href=\"/docs\">Operations</a> (Swagger UI)</li><li><a href=\"/openapi.json\">OpenAPI document</a></li>\
         <li><a href=\"/health/ready\">Readiness</a></li>\
         <li><a href=\"/.well-known/oauth-authorization-server\">Authorization server metadata</a></li></ul></html>",
    )
}
