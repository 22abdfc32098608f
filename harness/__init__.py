"""What tests and benchmarks share: a server, its processes, audio, words, tiny models, and the fakes of unit tests."""
