//! Which addresses an external API may be at. Pure.
//!
//! A1 an IPv6 address that stands for an IPv4 address is judged as that one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is not public.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotPublic {
    /// A network of somebody's own; reachable where the action file lists the host.
    Private(&'static str),
    /// Never what a host name should lead to; reachable only where the action file lists the address itself.
    Special(&'static str),
}

impl NotPublic {
    /// In words.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Private(reason) | Self::Special(reason) => reason,
        }
    }
}

/// `None` for public addresses.
pub fn classify(address: IpAddr) -> Option<NotPublic> {
    match address {
        IpAddr::V4(address) => classify_v4(address),
        IpAddr::V6(address) => classify_v6(address),
    }
}

fn classify_v4(address: Ipv4Addr) -> Option<NotPublic> {
    use NotPublic::{Private, Special};
    let [a, b, c, d] = address.octets();
    Some(match (a, b, c, d) {
        // Cloud metadata that is not link-local: Azure's wire server, Oracle, Alibaba.
        (168, 63, 129, 16) | (192, 0, 0, 192) | (100, 100, 100, 200) => Special("a cloud metadata address"),
        (0, ..) => Special("an unspecified address"),
        (127, ..) => Private("a loopback address"),
        (10, ..) | (172, 16..=31, ..) | (192, 168, ..) => Private("a private address"),
        (100, 64..=127, ..) => Private("a carrier-grade NAT address"),
        (169, 254, ..) => Special("a link-local address, where cloud metadata is"),
        (192, 0, 0, _) => Special("an IETF protocol address"),
        (192, 0, 2, _) | (198, 51, 100, _) | (203, 0, 113, _) => Special("a documentation address"),
        (192, 88, 99, _) => Special("a 6to4 relay address"),
        (198, 18..=19, ..) => Special("a benchmarking address"),
        (224..=239, ..) => Special("a multicast address"),
        (240..=255, ..) => Special("a reserved or broadcast address"),
        _ => return None,
    })
}

fn classify_v6(address: Ipv6Addr) -> Option<NotPublic> {
    use NotPublic::{Private, Special};
    let segments = address.segments();
    if address == Ipv6Addr::LOCALHOST {
        return Some(Private("a loopback address"));
    }
    if address == Ipv6Addr::UNSPECIFIED {
        return Some(Special("an unspecified address"));
    }
    let low = Ipv4Addr::from((u32::from(segments[6]) << 16) | u32::from(segments[7]));
    match segments {
        // IPv4-mapped, IPv4-compatible, IPv4-translated, and NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff, ..]
        | [0, 0, 0, 0, 0, 0, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..] => classify_v4(low),
        [0x64, 0xff9b, 1, ..] => Some(Private("a local NAT64 address")),
        // 6to4 (RFC 3056) holds its IPv4 address in front.
        [0x2002, high, low, ..] => classify_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))),
        [0x2001, 0, ..] => Some(Special("a Teredo address")),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some(Special("a documentation address")),
        [0x100, 0, 0, 0, ..] => Some(Special("a discard address")),
        [0xfd00, 0xec2, ..] => Some(Special("a cloud metadata address")),
        [0xfc00..=0xfdff, ..] => Some(Private("a unique local address")),
        [0xfe80..=0xfebf, ..] => Some(Special("a link-local address")),
        [0xfec0..=0xfeff, ..] => Some(Private("a site-local address")),
        [0xff00..=0xffff, ..] => Some(Special("a multicast address")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_an_inner_address_is_seen() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "10.0.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "198.18.0.1",
            "168.63.129.16",
            "100.100.100.200",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "::ffff:0:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "100::1",
        ] {
            assert!(classify(text.parse().unwrap()).is_some(), "{text}");
        }
    }

    #[test]
    fn public_addresses_are_public() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "2606:4700::1111",
            "64:ff9b::8.8.8.8",
            "::ffff:8.8.8.8",
            "2002:808:808::1",
        ] {
            assert_eq!(classify(text.parse().unwrap()), None, "{text}");
        }
    }
}
