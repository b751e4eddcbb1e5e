//! Asking somebody by HTTP.

use std::time::Duration;

use crate::output::Failure;

/// Time stamps are some kilobytes.
const REPLY_BYTES_MAX: u64 = 1 << 20;
/// From asking to the last byte of the answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends bytes and returns what is answered.
pub(super) fn post(url: &str, content_type: &str, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let failed = |error: ureq::Error| Failure::Cannot(format!("{url}: {error}"));
    let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build());
    let mut response = agent.post(url).content_type(content_type).send(bytes).map_err(failed)?;
    response.body_mut().with_config().limit(REPLY_BYTES_MAX).read_to_vec().map_err(failed)
}
