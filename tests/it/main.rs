//! End-to-end tests: real binaries, real sockets, real processes that get killed.
