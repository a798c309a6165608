//! Promotion policies for autopilot.
