//! The compact form of a JWS (RFC 7515 section 3.1), taken apart strictly.
//!
//! Pure. Knows dots and base64url; does not know keys, headers or claims.
//! J1 one token has one spelling: no white space, no padding, no stray bits.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The parts of a compact JWS; nothing in them is believed yet.
pub(super) struct Compact<'a> {
    /// The header's JSON.
    pub(super) header: Vec<u8>,
    /// What the signature is over.
    pub(super) signed: &'a str,
    /// In base64url.
    pub(super) signature: &'a str,
    claims: &'a str,
}

impl<'a> Compact<'a> {
    /// Three parts joined by dots, the first of which is base64url; `None` for anything else.
    pub(super) fn split(text: &'a str) -> Option<Self> {
        let mut parts = text.split('.');
        let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let signed = &text[..text.len() - signature.len() - 1];
        Some(Self { header: URL_SAFE_NO_PAD.decode(header).ok()?, signed, signature, claims })
    }

    /// The claims' JSON; `None` if they are not base64url.
    pub(super) fn claims(&self) -> Option<Vec<u8>> {
        URL_SAFE_NO_PAD.decode(self.claims).ok()
    }
}
