//! `hubwarden reload`, which `systemctl reload` runs.

use super::{Failure, runtime};
use crate::control::Client;

pub(super) fn reload() -> Result<(), Failure> {
    runtime()?.block_on(async {
        let connection = crate::sd_bus::connect().await.map_err(Failure::new)?;
        let client = Client::new(&connection).await.map_err(Failure::new)?;
        let words = client.reload().await.map_err(Failure::new)?;
        println!("{words}");
        Ok(())
    })
}
