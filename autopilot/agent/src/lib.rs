//! The autopilot server and command line.
