"""The controller of native tracing: which functions of a program, how the agent gets in, and how it is taken out again."""
