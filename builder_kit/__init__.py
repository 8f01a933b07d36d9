"""The operator's kit: a Python API for drawing graphs, and what turns a project into a component."""
