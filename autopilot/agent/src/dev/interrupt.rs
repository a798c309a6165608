//! Ctrl-C, and the signals that mean the same.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// Whether the person has had enough. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt {
    state: Arc<(Mutex<bool>, Condvar)>,
}

impl Interrupt {
    /// Begins to listen for SIGINT, SIGTERM and SIGHUP. The first one is remembered; the second one ends the process
    /// at once with 130, and the servers stop by themselves when their standard input closes.
    ///
    /// # Errors
    ///
    /// When the system does not let signals be handled.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let interrupt = Self::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let guard = runtime.enter();
        let mut interrupts = signal(SignalKind::interrupt())?;
        let mut terminations = signal(SignalKind::terminate())?;
        let mut hangups = signal(SignalKind::hangup())?;
        drop(guard);
        let told = interrupt.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async move {
                loop {
                    tokio::select! {
                        _ = interrupts.recv() => {}
                        _ = terminations.recv() => {}
                        _ = hangups.recv() => {}
                    }
                    if told.happened() {
                        std::process::exit(130);
                    }
                    told.raise();
                }
            });
        })?;
        Ok(interrupt)
    }

    fn raise(&self) {
        *self.state.0.lock().expect("nobody panics while holding it") = true;
        self.state.1.notify_all();
    }

    /// Whether it happened.
    pub(crate) fn happened(&self) -> bool {
        *self.state.0.lock().expect("nobody panics while holding it")
    }

    /// Waits for so long or until it happens, and says whether it did.
    pub(crate) fn wait(&self, at_most: Duration) -> bool {
        let held = self.state.0.lock().expect("nobody panics while holding it");
        let waited = self.state.1.wait_timeout_while(held, at_most, |happened| !*happened);
        *waited.expect("nobody panics while holding it").0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_the_interrupt() {
        let interrupt = Interrupt::default();
        assert!(!interrupt.wait(Duration::from_millis(1)));
        let other = interrupt.clone();
        let raising = std::thread::spawn(move || other.raise());
        assert!(interrupt.wait(Duration::from_secs(60)));
        raising.join().expect("raised");
        assert!(interrupt.happened());
    }
}
