//! HTML that is safe by how it is written: what is not a literal of the program is escaped, always.

/// A piece of a page.
pub struct Html(String);

impl Html {
    pub fn new() -> Self {
        Self(String::new())
    }

    /// Markup. Only literals of the program can be passed.
    pub fn markup(mut self, literal: &'static str) -> Self {
        self.0.push_str(literal);
        self
    }

    /// Any text, shown as it is: between tags, or in an attribute's double quotes.
    pub fn text(mut self, text: &str) -> Self {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '`' => self.0.push_str("&#96;"),
                c => self.0.push(c),
            }
        }
        self
    }

    /// Another piece.
    pub fn piece(mut self, piece: &Self) -> Self {
        self.0.push_str(&piece.0);
        self
    }

    /// A hidden field of a form.
    pub fn hidden(self, name: &'static str, value: &str) -> Self {
        self.markup("<input type=\"hidden\" name=\"")
            .markup(name)
            .markup("\" value=\"")
            .text(value)
            .markup("\">")
    }

    /// A name that somebody chose: its direction of writing does not reach beyond it.
    pub fn name(self, name: &str) -> Self {
        self.markup("<bdi>").text(name).markup("</bdi>")
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_opens_a_tag_closes_an_attribute_or_begins_an_entity_of_its_own(text in "\\PC{0,40}") {
            let html = Html::new().text(&text).into_string();
            prop_assert!(!html.contains(['<', '>', '"', '\'', '`']));
            let back = html.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"")
                .replace("&#39;", "'").replace("&#96;", "`").replace("&amp;", "&");
            prop_assert_eq!(back, text);
        }
    }

    #[test]
    fn a_field_holds_its_value_whatever_it_says() {
        let html = Html::new().hidden("request", "a=\"><script>alert(1)</script>").into_string();
        assert_eq!(
            html,
            "<input type=\"hidden\" name=\"request\" value=\"a=&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;\">"
        );
    }
}
