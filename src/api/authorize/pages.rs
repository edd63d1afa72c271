//! The pages that people see on the way to a token: login, consent, logout, and what went wrong.
//!
//! Pure. Plain HTML without scripts, readable without its style, from 320 pixels of width, with labels and by keyboard.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::html::Html;
use crate::auth::scope::{KNOWN_SCOPES, Scope, ScopeSet};
use crate::auth::{AuthorizationRequest, User};

/// The style of every page, allowed by its hash. Contrast is 4.5:1 or more in both schemes.
const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--page:#f3f4f6;--card:#fff;--line:#8c959f;--main:#0b5cad;--bad:#a40e26}\
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#a7b0ba;--page:#0f141a;--card:#1a2129;--line:#6e7681;--main:#7cb8ff;--bad:#ff9a94}}\
*{box-sizing:border-box}\
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,sans-serif}\
main{max-width:27rem;margin:8vh auto 2rem;padding:1.75rem;background:var(--card);border-radius:12px;box-shadow:0 1px 4px #0003;overflow-wrap:anywhere}\
@media(max-width:30rem){main{margin:0;min-height:100vh;border-radius:0}}\
h1{font-size:1.4rem;line-height:1.25;margin:0 0 .75rem}\
p{margin:.5rem 0}\
ul{padding-left:1.2rem;margin:.5rem 0 1rem}\
li{margin:.35rem 0}\
code{font-size:.85em;color:var(--soft);display:block}\
label{display:block;font-weight:600;margin:1rem 0 .25rem}\
input{width:100%;font:inherit;padding:.6rem .7rem;border:1px solid var(--line);border-radius:8px;background:var(--card);color:inherit}\
button{font:inherit;font-weight:600;padding:.65rem 1.2rem;border-radius:8px;border:1px solid var(--main);background:var(--main);color:var(--card);cursor:pointer}\
button.second{background:transparent;color:var(--main)}\
button.link{border:0;background:none;color:var(--main);padding:0;font-weight:400;text-decoration:underline}\
:focus-visible{outline:3px solid var(--main);outline-offset:2px}\
.row{display:flex;flex-wrap:wrap;gap:.75rem;margin-top:1.25rem}\
.row button{flex:1 1 8rem}\
.soft{color:var(--soft);font-size:.9rem}\
.alert{border-left:4px solid var(--bad);padding:.25rem .75rem;color:var(--bad)}\
";

/// What `style-src` must allow.
pub static STYLE_SOURCE: LazyLock<String> =
    LazyLock::new(|| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(STYLE))));

/// A form's address, the request that it is about, and what shows that it is ours.
pub struct FormParts<'a> {
    pub action: &'a str,
    pub query: &'a str,
    pub token: &'a str,
}

impl FormParts<'_> {
    fn open(&self) -> Html {
        Html::new()
            .markup("<form method=\"post\" action=\"")
            .text(self.action)
            .markup("\">")
            .hidden("request", self.query)
            .hidden("form_token", self.token)
    }
}

/// The login page. `username` is what was tried before, `problem` what was wrong with it.
pub fn log_in(
    request: &AuthorizationRequest,
    form: &FormParts<'_>,
    username: &str,
    problem: Option<&str>,
) -> String {
    let body = Html::new()
        .markup("<h1>Log in</h1><p>")
        .name(&request.client.name)
        .markup(" asks for access. You decide what it may do when you are logged in.</p>")
        .piece(&alert(problem))
        .piece(&form.open())
        .markup(
            "<label for=\"username\">Username</label>\
             <input id=\"username\" name=\"username\" autocomplete=\"username\" autocapitalize=\"none\" \
             spellcheck=\"false\" maxlength=\"64\" required",
        )
        // The cursor belongs where the next thing is to be typed.
        .markup(if username.is_empty() { " autofocus" } else { "" })
        .markup(" value=\"")
        .text(username)
        .markup(
            "\"><label for=\"password\">Password</label>\
             <input id=\"password\" name=\"password\" type=\"password\" autocomplete=\"current-password\" \
             maxlength=\"1024\" required",
        )
        .markup(if username.is_empty() { "" } else { " autofocus" })
        .markup("><div class=\"row\"><button type=\"submit\">Log in</button></div></form>");
    page("Log in", &body)
}

/// The consent page. `warns` is for apps that anybody can pass for.
pub fn consent(
    request: &AuthorizationRequest,
    user: &User,
    scopes: &ScopeSet,
    form: &FormParts<'_>,
    log_out: &FormParts<'_>,
    warns: bool,
) -> String {
    let mut body = Html::new()
        .markup("<h1>Allow ")
        .name(&request.client.name)
        .markup("?</h1><p>It wants to act for you, ")
        .name(&user.display_name)
        .markup(" (")
        .text(&user.username)
        .markup("), and will be able to:</p><ul>");
    for scope in scopes.iter() {
        body = body.piece(&item(scope));
    }
    body = body.markup("</ul><p>You go on to <strong>").text(&request.destination()).markup("</strong>.</p>");
    if warns {
        body = body.markup(
            "<p class=\"alert\">Any program on your device can call itself that. \
             Allow it only if you have just started it yourself.</p>",
        );
    }
    body = body
        .piece(&form.open())
        .hidden("shown", &scopes.to_string())
        .markup(
            "<div class=\"row\"><button type=\"submit\" name=\"decision\" value=\"allow\">Allow</button>\
             <button type=\"submit\" class=\"second\" name=\"decision\" value=\"deny\">Deny</button></div></form>",
        )
        .piece(&log_out.open())
        .markup(
            "<p class=\"soft\">Not you? <button type=\"submit\" class=\"link\">Use another account</button></p></form>",
        );
    page("Allow access", &body)
}

/// One scope in words, with its target and its name.
fn item(scope: &Scope) -> Html {
    let name = scope.untargeted();
    let known = KNOWN_SCOPES.iter().find(|known| known.name == name.as_str());
    let item = Html::new().markup("<li>");
    let item = match known {
        Some(known) => item.markup(known.description),
        None => item.text(scope.as_str()),
    };
    let item = match scope.target() {
        Some(target) => item.markup(", only ").text(target),
        None => item,
    };
    item.markup(" <code>").text(scope.as_str()).markup("</code></li>")
}

/// The page that asks whether to log out.
pub fn log_out(user: &User, form: &FormParts<'_>) -> String {
    let body = Html::new()
        .markup("<h1>Log out?</h1><p>You are logged in as ")
        .name(&user.display_name)
        .markup(" (")
        .text(&user.username)
        .markup(").</p>")
        .piece(&form.open())
        .markup("<div class=\"row\"><button type=\"submit\">Log out</button></div></form>");
    page("Log out", &body)
}

/// A page that says one thing; `again` is a link to begin once more.
pub fn message(title: &'static str, text: &str, is_error: bool, again: Option<&str>) -> String {
    let mut body = Html::new().markup("<h1>").markup(title).markup("</h1>");
    body = match is_error {
        true => body.piece(&alert(Some(text))),
        false => body.markup("<p>").text(text).markup("</p>"),
    };
    if let Some(again) = again {
        body = body.markup("<p><a href=\"").text(again).markup("\">Start again</a></p>");
    }
    page(title, &body)
}

fn alert(problem: Option<&str>) -> Html {
    match problem {
        Some(problem) => {
            Html::new().markup("<p class=\"alert\" role=\"alert\">").text(problem).markup("</p>")
        }
        None => Html::new(),
    }
}

fn page(title: &'static str, body: &Html) -> String {
    Html::new()
        .markup("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">")
        .markup("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>")
        .markup(title)
        .markup(" · Steward</title><style>")
        .markup(STYLE)
        .markup("</style></head><body><main>")
        .piece(body)
        .markup("</main></body></html>")
        .into_string()
}
