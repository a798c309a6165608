//! Real processes, sockets and disks.
