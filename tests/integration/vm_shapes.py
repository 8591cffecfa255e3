"""Shapes of Python code and what is recorded of them: functions, exceptions, plain generators."""

SHAPES = {
    "nested calls": (
        """
        def inner(): return 1
        def outer(): return inner() + inner()
        def main(): outer()
        """,
        """
        call main
          call outer
            call inner
            return inner
            call inner
            return inner
          return outer
        return main
        """,
    ),
    "generator": (
        """
        def numbers():
            yield 1
            yield 2
        def main():
            for n in numbers(): pass
        """,
        """
        call main
          call numbers
          yield numbers
          resume numbers
          yield numbers
          resume numbers
          return numbers
        return main
        """,
    ),
    "a generator that is never started": (
        """
        def numbers(): yield 1
        def main(): numbers()
        """,
        """
        call main
        3.10p|   call numbers
        3.10p|   exception numbers
        return main
        """,
    ),
    "yield from": (
        """
        def inner():
            yield 1
            return 2
        def outer(): return (yield from inner())
        def main(): list(outer())
        """,
        """
        call main
          call outer
            call inner
            yield inner
          yield outer
          resume outer
            resume inner
            return inner
          return outer
        return main
        """,
    ),
    "throw into a running generator, caught": (
        """
        def numbers():
            try: yield 1
            except KeyError: yield 2
        def main():
            g = numbers()
            next(g)
            g.throw(KeyError("a"))
            list(g)
        """,
        """
        call main
          call numbers
          yield numbers
          resume numbers
          yield numbers
          resume numbers
          return numbers
        return main
        """,
    ),
    "throw into a generator that was not started": (
        """
        def numbers(): yield 1
        def main():
            try: numbers().throw(KeyError("a"))
            except KeyError: pass
        """,
        """
        call main
        3.10p|   call numbers
        3.10p|   exception numbers
        return main
        """,
    ),
    "throw through yield from, the inner one ends": (
        """
        def inner():
            try: yield 1
            except KeyError: return 5
        def outer():
            value = yield from inner()
            yield value
        def main():
            g = outer()
            next(g)
            g.throw(KeyError("a"))
            list(g)
        """,
        """
        call main
          call outer
            call inner
            yield inner
          yield outer
          resume inner
          return inner
          resume outer
          yield outer
          resume outer
          return outer
        return main
        """,
    ),
    "close of a suspended generator": (
        """
        def plain(): yield 1
        def guarded():
            try: yield 1
            finally: done()
        def done(): pass
        def main():
            g = plain(); next(g); g.close()
            g = guarded(); next(g); del g
        """,
        """
        call main
          call plain
          yield plain
        3.12-|   resume plain
        3.12-|   exception plain
          call guarded
          yield guarded
          resume guarded
            call done
            return done
          exception guarded
        return main
        """,
    ),
    "exception caught two calls up": (
        """
        def third(): raise ValueError("no")
        def second(): third()
        def first():
            try: second()
            except ValueError: pass
        def main(): first()
        """,
        """
        call main
          call first
            call second
              call third
              exception third
            exception second
          return first
        return main
        """,
    ),
}
