"""YAML configs, composed by name: encoder/ memory/ method/ suite/."""
