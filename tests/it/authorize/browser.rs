//! As much of a browser as the pages need: cookies, forms, redirects that it is told to follow.

use std::collections::BTreeMap;

use crate::harness::Service;

pub struct Browser<'a> {
    service: &'a Service,
    http: reqwest::Client,
    cookies: BTreeMap<String, String>,
}

/// An answer.
pub struct Page {
    pub status: u16,
    pub body: String,
    headers: reqwest::header::HeaderMap,
}

impl Page {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn location(&self) -> String {
        self.header("location")
            .unwrap_or_else(|| panic!("no redirect: {} {}", self.status, self.body))
            .to_owned()
    }

    pub fn title(&self) -> String {
        between(&self.body, "<title>", "</title>").unwrap_or_default().to_owned()
    }

    pub fn set_cookie(&self, name: &str) -> Option<String> {
        let cookies = self.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap());
        cookies.filter(|text| text.starts_with(&format!("{name}="))).map(str::to_owned).next()
    }

    /// The hidden fields of the form that goes to `action`, or of the first one.
    fn form(&self, action: Option<&str>) -> (String, Vec<(String, String)>) {
        let mut forms = self.body.split("<form ").skip(1).map(|form| form.split("</form>").next().unwrap());
        let form = forms
            .find(|form| action.is_none_or(|action| form.contains(&format!("action=\"{action}\""))))
            .unwrap_or_else(|| panic!("no form: {}", self.body));
        let fields = form
            .split("<input type=\"hidden\" ")
            .skip(1)
            .map(|input| {
                (
                    unescape(between(input, "name=\"", "\"").unwrap()),
                    unescape(between(input, "value=\"", "\"").unwrap()),
                )
            })
            .collect();
        (unescape(between(form, "action=\"", "\"").unwrap()), fields)
    }

    pub fn field_of(&self, action: &str, name: &str) -> String {
        self.form(Some(action)).1.into_iter().find(|(other, _)| other == name).unwrap().1
    }
}

impl<'a> Browser<'a> {
    pub fn new(service: &'a Service) -> Self {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { service, http, cookies: BTreeMap::new() }
    }

    pub fn plant(&mut self, name: &str, value: &str) {
        self.cookies.insert(name.to_owned(), value.to_owned());
    }

    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.get(name).cloned()
    }

    pub fn has_cookie(&self, name: &str) -> bool {
        self.cookies.contains_key(name)
    }

    pub async fn get(&mut self, path: &str) -> Page {
        let request = self.http.get(format!("{}{path}", self.service.url));
        self.send(request).await
    }

    pub async fn follow(&mut self, page: &Page) -> Page {
        let location = page.location();
        assert!(location.starts_with('/') && !location.starts_with("//"), "leaves the service: {location}");
        self.get(&location).await
    }

    /// Sends the first form of a page with its hidden fields; `changes` replace or add fields.
    pub async fn submit(&mut self, page: &Page, changes: &[(&str, &str)]) -> Page {
        self.send_form(page, None, changes, &[]).await
    }

    pub async fn submit_to(&mut self, page: &Page, action: &str, changes: &[(&str, &str)]) -> Page {
        self.send_form(page, Some(action), changes, &[]).await
    }

    pub async fn submit_with(
        &mut self,
        page: &Page,
        changes: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Page {
        self.send_form(page, None, changes, headers).await
    }

    async fn send_form(
        &mut self,
        page: &Page,
        action: Option<&str>,
        changes: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> Page {
        let (action, mut fields) = page.form(action);
        fields.retain(|(name, _)| !changes.iter().any(|(other, _)| other == name));
        fields.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut request = self.http.post(format!("{}{action}", self.service.url)).form(&fields);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request).await
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Page {
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = request.header("cookie", cookies.join("; ")).send().await.unwrap();
        for cookie in answer.headers().get_all("set-cookie") {
            let (pair, rest) = cookie.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if rest.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Page { status, body: answer.text().await.unwrap(), headers }
    }
}

pub fn query_of(uri: &str) -> BTreeMap<String, String> {
    let query = uri.split_once('?').map(|(_, query)| query).unwrap_or_default();
    url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    Some(text.split_once(start)?.1.split_once(end)?.0)
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&#96;", "`")
        .replace("&amp;", "&")
}
