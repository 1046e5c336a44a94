"""The layers of a file: text over a buffer over an open descriptor, and the compiled modules that they rest on."""
