"""The plan is a dictionary."""
# expects: builder-trapped


def build(request):
    return {"graph": b"", "recipe": "{}"}
