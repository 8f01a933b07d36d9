"""A destructor that never returns."""
# expects: builder-out-of-fuel


def build(request):
    class Undead:
        def __del__(self):
            while True:
                pass

    Undead()
