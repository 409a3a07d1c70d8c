def document(registry):
    return {}
