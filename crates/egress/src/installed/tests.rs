use super::*;
use crate::{Mode, Place, UidRule};

fn server(cgroup: u64, number: u32) -> Admitted {
    let class = "standard".parse().unwrap();
    Admitted {
        cgroup: CgroupId(cgroup),
        level: 2,
        class,
        number,
    }
}

fn with(servers: &[Admitted]) -> Installed {
    let mut installed = Installed::new(&Policy::standard(Mode::Enforce)).unwrap();
    let delta = installed.admit(servers).unwrap();
    installed.apply(delta);
    installed
}

#[test]
fn admitting_again_changes_nothing() {
    let installed = with(&[server(10, 1), server(11, 2)]);
    assert!(installed.admit(&[server(10, 1)]).unwrap().is_empty());
    assert!(installed.forget(&[CgroupId(99)]).is_empty());
}

#[test]
fn each_element_of_servers_and_people_is_found_by_its_key_for_a_repair() {
    let mut installed = with(&[server(10, 1), server(11, 2)]);
    let place = |cgroup, number| Place {
        cgroup: CgroupId(cgroup),
        level: 2,
        number,
    };
    let uid_rule = UidRule {
        uid: 1000,
        class: "standard".parse().unwrap(),
        number: UidRule::NUMBER_MIN,
        slice: Some(place(12, 3)),
        servers: vec![place(10, 1)],
    };
    let uid_rules = UidRules {
        by_uid: BTreeMap::from([(1000, uid_rule)]),
        jobs: BTreeSet::from([CgroupId(20)]),
        identity_services: BTreeSet::from([CgroupId(21)]),
        ..UidRules::default()
    };
    installed.set_uid_rules(&uid_rules).unwrap();
    let mut count = 0;
    for set in installed.ruleset().sets {
        for element in &set.elements {
            if let Some(found) = installed
                .place(&set.name)
                .map(|place| place.element(&element.key))
            {
                assert_eq!(found.as_ref(), Some(element), "{}", set.name);
                count += 1;
            }
        }
    }
    // Three for each server; for the slice three, two by uid, four between places; services.
    assert_eq!(count, 6 + 3 + 2 + 4 + 2);
    let stranger = 1001u32.to_ne_bytes();
    assert_eq!(installed.place("uids").unwrap().element(&stranger), None);
    assert_eq!(installed.class_of(3), installed.class_of(1));
}

#[test]
fn who_cannot_be_judged_outside_the_server_is_refused_by_name() {
    let installed = with(&[server(10, 1)]);
    let good = UidRule {
        uid: 1000,
        class: "standard".parse().unwrap(),
        number: UidRule::NUMBER_MIN,
        slice: None,
        servers: Vec::new(),
    };
    let slice = |cgroup, number| Place {
        cgroup: CgroupId(cgroup),
        level: 2,
        number,
    };
    let root = UidRule {
        uid: 0,
        ..good.clone()
    };
    let lost = UidRule {
        class: "nowhere".parse().unwrap(),
        ..good.clone()
    };
    let numbered = UidRule {
        number: 1,
        ..good.clone()
    };
    let in_a_server = UidRule {
        slice: Some(slice(10, 2)),
        ..good.clone()
    };
    for wrong in [root, lost, numbered, in_a_server] {
        let uid_rules = UidRules {
            by_uid: BTreeMap::from([(wrong.uid, wrong)]),
            ..UidRules::default()
        };
        let error = installed.clone().set_uid_rules(&uid_rules).unwrap_err();
        assert!(matches!(error, Error::UidRule { .. }), "{error}");
    }
}

#[test]
fn two_servers_never_share_a_number() {
    let installed = with(&[server(10, 1)]);
    for wrong in [vec![server(11, 1)], vec![server(11, 2), server(12, 2)]] {
        assert!(matches!(
            installed.admit(&wrong),
            Err(Error::Number { number: 1 | 2, .. })
        ));
    }
    for wrong in [0, 1 << 24] {
        assert!(matches!(
            installed.admit(&[server(11, wrong)]),
            Err(Error::Number { .. })
        ));
    }
    let mut installed = installed;
    let swap = installed.admit(&[server(10, 2), server(11, 1)]).unwrap();
    installed.apply(swap);
    assert!(installed.admit(&[server(12, 1)]).is_err());
    assert!(installed.admit(&[server(12, 2)]).is_err());
    let delta = installed.forget(&[CgroupId(11)]);
    installed.apply(delta);
    assert_eq!(
        installed.admit(&[server(12, 1)]).unwrap().come,
        [server(12, 1)]
    );
}

#[test]
fn what_the_table_does_not_look_at_is_refused_by_name() {
    let installed = with(&[]);
    let deep = Admitted {
        level: 4,
        ..server(10, 1)
    };
    assert!(matches!(
        installed.admit(&[deep]),
        Err(Error::Level { level: 4, .. })
    ));
    let lost = Admitted {
        class: "nowhere".parse().unwrap(),
        ..server(10, 1)
    };
    let error = installed.admit(&[lost]).unwrap_err();
    assert!(error.to_string().contains("no class nowhere"), "{error}");
    let exempt = Admitted {
        class: ClassName::exempt(),
        ..server(10, 1)
    };
    assert!(installed.admit(&[exempt]).is_ok());
    let unknown = [(CgroupId(10), ClassName::exempt())];
    assert!(matches!(
        installed.reclass(&unknown),
        Err(Error::NotAdmitted { .. })
    ));
}
