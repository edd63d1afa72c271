use super::super::spec::ApiSpec;
use super::*;
use proptest::prelude::*;
use serde_json::json;

fn operation(path: &str, parameters: Value, body: Value) -> std::sync::Arc<Operation> {
    let mut operation = json!({"operationId": "call", "parameters": parameters});
    if body != Value::Null {
        operation["requestBody"] = json!({ "content": body });
    }
    let document = json!({"openapi": "3.0.0", "paths": {path: {"post": operation}}});
    let spec = ApiSpec::parse(&document.to_string()).unwrap();
    spec.operation(spec.find("call").unwrap()).unwrap().unwrap()
}

fn parameter(name: &str, place: &str, more: Value) -> Value {
    let mut parameter = json!({"name": name, "in": place, "required": place == "path", "schema": {}});
    for (key, value) in more.as_object().unwrap() {
        parameter[key] = value.clone();
    }
    parameter
}

fn base() -> Url {
    Url::parse("https://api.example.org:8443/v1/").unwrap()
}

fn url_of(path: &str, parameters: Value, arguments: Value) -> Result<String, String> {
    build_request(&operation(path, parameters, Value::Null), &base(), &arguments)
        .map(|request| request.url.to_string())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

#[test]
fn query_styles_are_written_as_openapi_says() {
    let list = json!(["a b", "c,d"]);
    let object = json!({"R": 100, "G": 200});
    for (style, value, expected) in [
        (json!({}), &list, "q=a%20b&q=c%2Cd"),
        (json!({"explode": false}), &list, "q=a%20b,c%2Cd"),
        (json!({"style": "spaceDelimited", "explode": false}), &list, "q=a%20b%20c%2Cd"),
        (json!({"style": "pipeDelimited", "explode": false}), &list, "q=a%20b%7Cc%2Cd"),
        (json!({}), &object, "R=100&G=200"),
        (json!({"explode": false}), &object, "q=R,100,G,200"),
        (json!({"style": "deepObject"}), &object, "q[R]=100&q[G]=200"),
        (
            json!({"content": {"application/json": {"schema": {}}}}),
            &object,
            "q=%7B%22R%22%3A100%2C%22G%22%3A200%7D",
        ),
        (json!({}), &json!("a&b=c#d"), "q=a%26b%3Dc%23d"),
        (json!({}), &json!(true), "q=true"),
        (json!({}), &json!(5.0), "q=5"),
        (json!({}), &json!(-0.25), "q=-0.25"),
    ] {
        let url = url_of("/x", json!([parameter("q", "query", style.clone())]), json!({"q": value})).unwrap();
        assert_eq!(url, format!("https://api.example.org:8443/v1/x?{expected}"), "{style}");
    }
}

#[test]
fn path_styles_are_written_as_openapi_says() {
    let list = json!([3, 4]);
    for (style, expected) in [
        (json!({}), "3,4"),
        (json!({"style": "label"}), ".3,4"),
        (json!({"style": "label", "explode": true}), ".3.4"),
        (json!({"style": "matrix"}), ";id=3,4"),
        (json!({"style": "matrix", "explode": true}), ";id=3;id=4"),
    ] {
        let url = url_of("/x/{id}", json!([parameter("id", "path", style)]), json!({"id": list})).unwrap();
        assert_eq!(url, format!("https://api.example.org:8443/v1/x/{expected}"));
    }
}

#[test]
fn no_path_parameter_leaves_its_segment() {
    let call = |value: &str| {
        url_of("/users/{id}/data", json!([parameter("id", "path", json!({}))]), json!({ "id": value }))
    };
    for attack in [
        "",
        ".",
        "..",
        "../admin",
        "..\\admin",
        "a/../b",
        "%2e%2e",
        "%2E%2e%2fadmin",
        "%252e%252e",
        "%25252e%25252e/x",
        "a\0b",
        "a\r\nHost: evil",
        "%00",
        "%0d%0a",
        "a/./b",
    ] {
        assert!(call(attack).is_err(), "{attack:?} gave {:?}", call(attack));
    }
    for (value, expected) in [
        ("a/b", "a%2Fb"),
        ("?x=y", "%3Fx%3Dy"),
        ("#top", "%23top"),
        ("a@evil.example", "a%40evil.example"),
        ("//evil.example", "%2F%2Fevil.example"),
        ("...", "..."),
        ("50%", "50%25"),
        ("zürich", "z%C3%BCrich"),
    ] {
        assert_eq!(
            call(value).unwrap(),
            format!("https://api.example.org:8443/v1/users/{expected}/data"),
            "{value}"
        );
    }
    let two = json!([parameter("a", "path", json!({})), parameter("b", "path", json!({}))]);
    assert!(url_of("/x/{a}{b}", two.clone(), json!({"a": "a.", "b": ".b"})).is_ok());
    assert!(url_of("/x/{a}/{b}", two, json!({"a": "a", "b": "."})).is_err());
}

#[test]
fn headers_and_cookies_hold_one_value_each() {
    let parameters =
        json!([parameter("X-Trace", "header", json!({})), parameter("sid", "cookie", json!({}))]);
    let operation = operation("/x", parameters, Value::Null);
    for attack in ["a\r\nX-Admin: 1", "a\nb", "a\0b"] {
        let problems = build_request(&operation, &base(), &json!({"X-Trace": attack})).unwrap_err();
        assert_eq!(problems[0].pointer, "/X-Trace");
    }
    let request =
        build_request(&operation, &base(), &json!({"X-Trace": [1, 2], "sid": "a; admin=1"})).unwrap();
    assert_eq!(request.headers["x-trace"], "1,2");
    assert_eq!(request.cookies, [("sid".to_owned(), "a%3B%20admin%3D1".to_owned())]);
}

#[test]
fn bodies_are_written_as_their_media_type_says() {
    let form = json!({"application/x-www-form-urlencoded": {
        "schema": {"type": "object"}, "encoding": {"deep": {"style": "deepObject"}}}});
    let arguments = json!({"body": {"a": "x&y", "list": [1, 2], "deep": {"k": {"l": 1}}, "flat": {"k": 1}, "none": null}});
    let request = build_request(&operation("/x", json!([]), form), &base(), &arguments).unwrap();
    assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");
    assert_eq!(request.body.unwrap(), "a=x%26y&list=1&list=2&deep[k][l]=1&flat=%7B%22k%22%3A1%7D");
    let request = build_request(
        &operation(
            "/x",
            json!([]),
            json!({"text/xml": {"schema": {"type": "object"}}, "multipart/form-data": {}}),
        ),
        &base(),
        &json!({"body": "<a/>"}),
    )
    .unwrap();
    assert_eq!(
        (request.headers["content-type"].to_str().unwrap(), request.body.unwrap()),
        ("text/xml", "<a/>".into())
    );
}

#[test]
fn a_fixed_query_of_the_path_and_of_the_base_stay() {
    let operation =
        operation("/do?action=list#Action=List", json!([parameter("q", "query", json!({}))]), Value::Null);
    let base = Url::parse("https://x.org/api?v=1").unwrap();
    let request = build_request(&operation, &base, &json!({"q": 1})).unwrap();
    assert_eq!(request.url.as_str(), "https://x.org/api/do?v=1&action=list&q=1");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((any::<String>(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_in_any_style_keeps_host_and_segments(
        path in any_json(), query in any_json(), header in any_json(), cookie in any_json(),
        style in prop::sample::select(vec!["simple", "label", "matrix", "form", "deepObject", "pipeDelimited"]),
        explode in any::<bool>(),
    ) {
        let more = json!({"style": style, "explode": explode});
        let parameters = json!([
            parameter("p", "path", more.clone()), parameter("q", "query", more.clone()),
            parameter("X-H", "header", more.clone()), parameter("c", "cookie", more),
        ]);
        let operation = operation("/x/{p}/y", parameters, Value::Null);
        let arguments = json!({"p": path, "q": query, "X-H": header, "c": cookie});
        if let Ok(request) = build_request(&operation, &base(), &arguments) {
            prop_assert_eq!(request.url.origin(), base().origin());
            prop_assert_eq!(request.url.path_segments().unwrap().count(), 4);
            prop_assert!(request.url.fragment().is_none());
            for (name, value) in &request.cookies {
                let clean = ![name, value].iter().any(|text| text.contains([';', ' ', '\r', '\n']));
                prop_assert!(clean);
            }
        }
    }

    #[test]
    fn any_path_parameter_keeps_host_and_segments(a in any::<String>(), b in "[./%\\\\2eEfF0-9?#@:a]{0,12}") {
        let parameters = json!([parameter("a", "path", json!({})), parameter("b", "path", json!({}))]);
        let operation = operation("/users/{a}/x-{b}/data", parameters, Value::Null);
        if let Ok(request) = build_request(&operation, &base(), &json!({"a": a, "b": b})) {
            prop_assert_eq!(request.url.origin(), base().origin());
            let segments: Vec<_> = request.url.path_segments().unwrap().collect();
            prop_assert_eq!(segments.len(), 5);
            prop_assert_eq!((segments[0], segments[1], segments[4]), ("v1", "users", "data"));
            prop_assert!(request.url.query().is_none() && request.url.fragment().is_none());
            prop_assert_eq!(percent_decode_str(segments[2]).decode_utf8().unwrap(), a);
            let again = Url::parse(request.url.as_str()).unwrap();
            prop_assert_eq!(again, request.url);
        }
    }

    #[test]
    fn any_query_value_stays_one_pair(value in any::<String>()) {
        let url = url_of("/x", json!([parameter("q", "query", json!({}))]), json!({"q": value})).unwrap();
        let url = Url::parse(&url).unwrap();
        let pairs: Vec<_> = url.query_pairs().collect();
        prop_assert_eq!(pairs, vec![("q".into(), std::borrow::Cow::from(value))]);
        prop_assert!(url.fragment().is_none());
    }
}
