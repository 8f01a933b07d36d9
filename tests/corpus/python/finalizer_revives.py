"""A destructor that makes itself anew, for ever."""
# expects: builder-stack-overflow


def build(request):
    class Phoenix:
        def __del__(self):
            Phoenix()

    while True:
        Phoenix()
