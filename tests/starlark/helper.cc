// A source for tests of what a dependency hands on.
int helper() { return 0; }
