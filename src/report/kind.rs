//! The kinds of journal entry, each with its own MESSAGE_ID.
//!
//! `systemd/hubwarden.catalog` explains each to `journalctl -x`; a test holds the two together.
//! An id is never changed: others filter by it.

/// What an entry tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The daemon is up.
    Started,
    /// The daemon goes down; what it enforces stays.
    Stopped,
    /// A server was found and mapped to its user.
    ServerFound,
    /// A server stopped.
    ServerGone,
    /// A unit might be a server, but whose cannot be told.
    ServerNotMapped,
    /// A place where users run is not covered.
    NotCovered,
    /// It is covered now, or gone.
    CoveredAgain,
    /// A server got the limit that everybody has.
    Limited,
    /// Verdict: it yields to others.
    Deprioritised,
    /// Verdict: its quota is the baseline.
    Throttled,
    /// Verdict: what stood there before is back.
    Freed,
    /// Somebody else changed a server's limit.
    LimitChanged,
    /// A server was refused a connection.
    EgressRefused,
    /// Somebody else changed the packet rules; they were put back.
    EgressRepaired,
    /// Everything was lifted on request.
    Off,
    /// Supervision was resumed on request.
    On,
    /// A new configuration is in force.
    ConfigReloaded,
    /// A new configuration was refused; the old one stays in force.
    ConfigRejected,
    /// An admin's exception for a user was given.
    Granted,
    /// An admin's exception ended.
    Revoked,
    /// A server's running time is about to end.
    Warned,
    /// Verdict: its processes stand still.
    Frozen,
    /// Verdict: it is ended.
    ServerStopped,
    /// A server does something that miners do.
    EvidenceFound,
    /// A server asked for a name that it may not have.
    NameDenied,
    /// Another class judges a server's packets.
    ClassChanged,
    /// A sender ran into its share of what all need.
    ShareReached,
    /// Something did not work.
    Trouble,
}

impl Kind {
    /// All kinds.
    pub const ALL: &'static [Kind] = &[
        Kind::Started,
        Kind::Stopped,
        Kind::ServerFound,
        Kind::ServerGone,
        Kind::ServerNotMapped,
        Kind::NotCovered,
        Kind::CoveredAgain,
        Kind::Limited,
        Kind::Deprioritised,
        Kind::Throttled,
        Kind::Freed,
        Kind::LimitChanged,
        Kind::EgressRefused,
        Kind::EgressRepaired,
        Kind::Off,
        Kind::On,
        Kind::ConfigReloaded,
        Kind::ConfigRejected,
        Kind::Granted,
        Kind::Revoked,
        Kind::Warned,
        Kind::Frozen,
        Kind::ServerStopped,
        Kind::EvidenceFound,
        Kind::NameDenied,
        Kind::ClassChanged,
        Kind::ShareReached,
        Kind::Trouble,
    ];

    /// The journal's MESSAGE_ID (sd-messages(3)).
    pub fn message_id(self) -> &'static str {
        match self {
            Kind::Started => "356a810a44b24c7aa951dfb32e188029",
            Kind::Stopped => "2229f52765f74570acb540071e52ea52",
            Kind::ServerFound => "59dd047fb37b4d6591eb2cad76a9021c",
            Kind::ServerGone => "45d20c4567ca4bd4963a8aba6ae5c31d",
            Kind::ServerNotMapped => "5575c4a71e2a411d91328cc5bd7759b1",
            Kind::NotCovered => "f9b8e630c44e4e9cbf525856906a2fbc",
            Kind::CoveredAgain => "e644d021d26a4f0cbe0f396f17001663",
            Kind::Limited => "915d1bd1fa084a45a2af720e390e5d53",
            Kind::Deprioritised => "bc0a55ea44ea4253b43e0ad4bea7e121",
            Kind::Throttled => "9295960c33d74fc8b371d65822c8af25",
            Kind::Freed => "92e541f538004a56844f227927b4c49f",
            Kind::LimitChanged => "64640bdb19f44acf95b5e9cc20626762",
            Kind::EgressRefused => "7edd500d6197401ba1f5e80be2e27fc9",
            Kind::EgressRepaired => "bdee630449ec4c54804c92823c48ec82",
            Kind::Off => "e6d98d79e33249d2b977e9c2a2d7e5f2",
            Kind::On => "92602c860f754681b5b0bc656bb9c429",
            Kind::ConfigReloaded => "e167b977aaac4c02b66b24f428b94af0",
            Kind::ConfigRejected => "90d445881f3340dd912d08adaa991aef",
            Kind::Granted => "7843628846414835a560ebd54e5f79fc",
            Kind::Revoked => "bab1553501e042afa7729d3d5622ab35",
            Kind::Warned => "cd4d8c212c6347388d51cd7ab17aae6b",
            Kind::Frozen => "80e44bd3e60346e29b91a58ed9316c4c",
            Kind::ServerStopped => "329cd3bdd0ca4663bf9cb0611d3eb998",
            Kind::EvidenceFound => "40e02ac502d442b79a38e15f8f0cbdc4",
            Kind::NameDenied => "3f0c1b6d5d764a0c9a7e8a1a5b2d94e7",
            Kind::ClassChanged => "a4d2c7f0e6b94e6a8b1c35f7d90e2b16",
            Kind::ShareReached => "5ae7623ff8d2471eb65704485d6b20fc",
            Kind::Trouble => "6b7ffe5b7aff4c7892c3dd2c4145ae0b",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_an_id_of_its_own_and_an_entry_in_the_catalog() {
        let catalog = include_str!("../../systemd/hubwarden.catalog");
        let ids: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.message_id()).collect();
        assert_eq!(ids.len(), Kind::ALL.len());
        let explained: BTreeSet<&str> = catalog
            .lines()
            .filter_map(|line| line.strip_prefix("-- "))
            .collect();
        assert_eq!(ids, explained);
    }
}
