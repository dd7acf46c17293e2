"""The tests behind `papyra.testing.BackendConformance`, one file per kind of promise."""
