//! The tests across processes are in `it/`: real binaries, real sockets, real kills. There is nothing else here.
