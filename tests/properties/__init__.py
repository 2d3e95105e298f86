"""Properties that every module of the library has, driven over one registry of cases."""
