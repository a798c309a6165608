//! For tests of policies and of programs that embed autopilot.
