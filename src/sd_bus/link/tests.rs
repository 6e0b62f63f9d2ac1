//! The link with a systemd that ends its connections, as `daemon-reexec` does.

use super::super::{SdBus, SdBusError, UNIT, UnitName, UnitObject};
use super::*;
use std::sync::atomic::AtomicU32;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use zbus::{Guid, OwnedObjectPath, OwnedVariant, Variant, interface};

type Properties = Vec<(String, OwnedVariant)>;

/// A service manager that drops its connection at the next so many calls.
#[derive(Default)]
struct Systemd {
    drops: AtomicU32,
    calls: AtomicU32,
}

#[derive(Clone)]
struct Object {
    systemd: Arc<Systemd>,
    hang_up: mpsc::UnboundedSender<()>,
}

impl Object {
    async fn called(&self) {
        self.systemd.calls.fetch_add(1, Ordering::SeqCst);
        let one_less = |left: u32| left.checked_sub(1);
        let dropped = self
            .systemd
            .drops
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        if dropped.is_ok() {
            self.hang_up.send(()).unwrap();
            std::future::pending::<()>().await;
        }
    }
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Object {
    async fn get_unit(&self, _unit: String) -> OwnedObjectPath {
        self.called().await;
        OwnedObjectPath::try_from("/unit".to_owned()).unwrap()
    }

    async fn freeze_unit(&self, _unit: String) {
        self.called().await;
    }

    async fn stop_unit(&self, _unit: String, mode: String) -> OwnedObjectPath {
        assert_eq!(mode, "replace");
        OwnedObjectPath::try_from("/job".to_owned()).unwrap()
    }

    async fn set_unit_properties(&self, _unit: String, runtime: bool, set: Properties) {
        assert!(runtime);
        assert_eq!(set.len(), 1);
    }

    async fn start_transient_unit(
        &self,
        _unit: String,
        mode: String,
        properties: Properties,
        auxiliary: Vec<(String, Properties)>,
    ) -> OwnedObjectPath {
        assert_eq!(mode, "replace");
        assert_eq!((properties.len(), auxiliary.len()), (1, 1));
        OwnedObjectPath::try_from("/job".to_owned()).unwrap()
    }
}

struct Unit(Object);

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl Unit {
    #[zbus(property)]
    async fn transient(&self) -> bool {
        self.0.called().await;
        true
    }
}

/// Listens below a directory; the socket's path.
fn listen(directory: &Path, systemd: &Arc<Systemd>) -> PathBuf {
    let path = directory.join("private");
    let listener = UnixListener::bind(&path).unwrap();
    let systemd = Arc::clone(systemd);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (hang_up, mut ended) = mpsc::unbounded_channel();
            let systemd = Arc::clone(&systemd);
            tokio::spawn(async move {
                let object = Object { systemd, hang_up };
                let connection = zbus::connection::Builder::unix_stream(stream.into_std().unwrap())
                    .server(Guid::generate())
                    .p2p()
                    .serve_at("/unit", Unit(object.clone()))
                    .serve_at("/org/freedesktop/systemd1", object)
                    .build()
                    .await
                    .unwrap();
                let _ = ended.recv().await;
                connection.close().await.unwrap();
            });
        }
    });
    path
}

fn bus(path: PathBuf) -> SdBus {
    SdBus {
        link: Arc::new(Link::new(path)),
    }
}

#[test]
fn an_answer_of_systemd_252_is_made_readable_and_nothing_else_is_touched() {
    let answer = b"l\x02\x01\x012\0\0\0\x01\0\0\x007\0\0\0\x05\x01u\0\x07\0\0\0\x07\x01s\0\x18\0\0\0org.freedesktop.systemd1\0\0\0\0\0\0\0\0\x08\x01g\0\x01o\0\0-\0\0\0/org/freedesktop/systemd1/unit/dbus_2eservice\0";
    let mut mended = answer.to_vec();
    SystemdAnswers.mend(&mut mended);
    let changed: Vec<_> = (0..answer.len())
        .filter(|at| answer[*at] != mended[*at])
        .map(|at| (at, mended[at]))
        .collect();
    assert_eq!(changed, [(32, b':')]);
    let mut short = b"l\x02\x01\x01".to_vec();
    SystemdAnswers.mend(&mut short);
    assert_eq!(short, b"l\x02\x01\x01");
}

#[tokio::test]
async fn a_lost_question_is_asked_again_and_a_lost_change_is_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let systemd = Arc::new(Systemd::default());
    let bus = bus(listen(directory.path(), &systemd));
    let unit = UnitName("a.service".to_owned());
    bus.unit(&unit).await.unwrap();
    assert_eq!(bus.way(), Way::Private);
    systemd.drops.store(1, Ordering::SeqCst);
    bus.unit(&unit).await.unwrap();
    assert_eq!(
        systemd.calls.load(Ordering::SeqCst),
        3,
        "it was asked again"
    );
    systemd.drops.store(1, Ordering::SeqCst);
    let lost = bus.freeze(&unit).await;
    assert!(
        matches!(&lost, Err(SdBusError::Lost { asked, .. }) if asked == "FreezeUnit"),
        "{lost:?}"
    );
    assert_eq!(systemd.calls.load(Ordering::SeqCst), 4, "it was done once");
    bus.freeze(&unit).await.unwrap();
    // One that always hangs up is not asked without end.
    systemd.drops.store(2, Ordering::SeqCst);
    assert!(matches!(
        bus.unit(&unit).await,
        Err(SdBusError::Lost { .. })
    ));
}

#[tokio::test]
async fn a_lost_property_is_asked_again_and_one_of_no_unit_says_it_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let systemd = Arc::new(Systemd::default());
    let bus = bus(listen(directory.path(), &systemd));
    let unit = UnitName("a.service".to_owned());
    let object = bus.unit(&unit).await.unwrap();
    systemd.drops.store(1, Ordering::SeqCst);
    let transient = bus.property::<bool>(&unit, &object, UNIT, "Transient");
    assert!(transient.await.unwrap());
    systemd.drops.store(2, Ordering::SeqCst);
    let lost = bus.property::<bool>(&unit, &object, UNIT, "Transient");
    let lost = lost.await;
    assert!(
        matches!(&lost, Err(SdBusError::Lost { asked, .. }) if asked == "Transient"),
        "{lost:?}"
    );
    let other_type = bus.property::<String>(&unit, &object, UNIT, "Transient");
    let other_type = other_type.await;
    assert!(matches!(other_type, Err(SdBusError::Refused { .. })));
    let path = OwnedObjectPath::try_from("/none".to_owned()).unwrap();
    let none = UnitObject { path };
    let gone = bus.property::<bool>(&unit, &none, UNIT, "Transient");
    let gone = gone.await;
    assert!(matches!(gone, Err(SdBusError::Gone(_))), "{gone:?}");
}

#[tokio::test]
async fn changes_have_the_arguments_that_systemd_takes() {
    let directory = tempfile::tempdir().unwrap();
    let bus = bus(listen(directory.path(), &Arc::default()));
    let unit = UnitName("a.timer".to_owned());
    let properties = [("CPUWeight", Variant::U64(20))];
    bus.set_properties(&unit, &properties).await.unwrap();
    let auxiliary = [("a.service".to_owned(), &properties[..])];
    let started = bus.start_transient(&unit, &properties, &auxiliary);
    started.await.unwrap();
    bus.stop(&unit).await.unwrap();
}

#[tokio::test]
async fn calls_that_were_under_way_together_are_each_asked_again() {
    let directory = tempfile::tempdir().unwrap();
    let systemd = Arc::new(Systemd::default());
    let bus = bus(listen(directory.path(), &systemd));
    let unit = UnitName("a.service".to_owned());
    systemd.drops.store(1, Ordering::SeqCst);
    let (a, b, c) = tokio::join!(bus.unit(&unit), bus.unit(&unit), bus.unit(&unit));
    a.unwrap();
    b.unwrap();
    c.unwrap();
}

#[tokio::test]
async fn a_socket_that_refuses_for_a_moment_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let systemd = Arc::new(Systemd::default());
    let path = directory.path().join("private");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let bus = bus(path.clone());
    let unit = UnitName("a.service".to_owned());
    let (found, ()) = tokio::join!(bus.unit(&unit), async {
        tokio::task::yield_now().await;
        std::fs::remove_file(&path).unwrap();
        listen(directory.path(), &systemd);
    });
    // Where the machine is so slow that the file was missing, it is the bus, or nothing.
    if bus.way() == Way::Private {
        found.unwrap();
    }
}
