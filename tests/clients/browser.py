"""A person with a browser, as far as logging in and allowing goes: follows redirects, keeps cookies, fills in forms."""

from html.parser import HTMLParser
from urllib.parse import parse_qs, urljoin, urlsplit

import requests


class Forms(HTMLParser):
    def __init__(self):
        super().__init__()
        self.forms = []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "form":
            self.forms.append({"action": attributes.get("action", ""), "fields": {}, "buttons": []})
        elif self.forms and attributes.get("name"):
            if tag == "input":
                self.forms[-1]["fields"][attributes["name"]] = attributes.get("value", "")
            elif tag == "button":
                self.forms[-1]["buttons"].append((attributes["name"], attributes.get("value", "")))


def authorize(url, redirect_uri, username, password):
    """Opens `url`, logs in, allows what is asked for, and returns the address that the browser is sent back to."""
    session = requests.Session()
    answer = session.get(url, allow_redirects=False)
    for _ in range(10):
        while answer.is_redirect:
            target = urljoin(answer.url, answer.headers["Location"])
            if target.split("?")[0] == redirect_uri:
                return target
            answer = session.get(target, allow_redirects=False)
        if answer.status_code != 200:
            raise AssertionError(f"{answer.url} answered {answer.status_code}: {answer.text[:500]}")
        page = Forms()
        page.feed(answer.text)
        form = next(form for form in page.forms if "logout" not in form["action"])
        fields = dict(form["fields"])
        if "password" in fields:
            fields |= {"username": username, "password": password}
        allow = [button for button in form["buttons"] if button[1] == "allow"]
        fields |= dict(allow or form["buttons"][:1])
        target = urljoin(answer.url, form["action"] or answer.url)
        answer = session.post(target, data=fields, allow_redirects=False, headers={"Origin": origin(answer.url)})
    raise AssertionError("the pages lead nowhere")


def origin(url):
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def query(url):
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
