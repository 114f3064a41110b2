"""zero_shot: the bare encoder, compared with prompts. Given nothing."""
