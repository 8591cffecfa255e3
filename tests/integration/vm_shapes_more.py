"""More shapes of Python code and what is recorded of them."""

SHAPES = {
    "exception replaced in a finally": (
        """
        def cleanup(): raise KeyError("second")
        def work():
            try: raise ValueError("first")
            finally: cleanup()
        def main():
            try: work()
            except KeyError as error: assert type(error.__context__) is ValueError
        """,
        """
        call main
          call work
            call cleanup
            exception cleanup
          exception work
        return main
        """,
    ),
    "recursion": (
        """
        def down(n): return n if n == 0 else down(n - 1)
        def main(): down(3)
        """,
        """
        call main
          call down
            call down
              call down
                call down
                return down
              return down
            return down
          return down
        return main
        """,
    ),
    "class bodies and methods": (
        """
        def main():
            class Base:
                def __init__(self): self.hello()
                def hello(self): pass
                @classmethod
                def make(cls): return cls()
                @staticmethod
                def free(): pass
                @property
                def size(self): return 3
            Base.make().size
            Base.free()
        """,
        """
        call main
          call Base
          return Base
          call make
            call __init__
              call hello
              return hello
            return __init__
          return make
          call size
          return size
          call free
          return free
        return main
        """,
    ),
    "comprehensions": (
        """
        def f(x): return x
        def main():
            [f(x) for x in (1,)]
            list(f(x) for x in (2,))
        """,
        """
        call main
        3.11-|   call <listcomp>
        3.11-|     call f
        3.11-|     return f
        3.11-|   return <listcomp>
        3.12+|   call f
        3.12+|   return f
          call <genexpr>
            call f
            return f
          yield <genexpr>
          resume <genexpr>
          return <genexpr>
        return main
        """,
    ),
    "exec and eval": (
        """
        def f(): pass
        def main():
            exec("f()", globals())
            eval("f()", globals())
        """,
        """
        call main
          call <module>
            call f
            return f
          return <module>
          call <module>
            call f
            return f
          return <module>
        return main
        """,
    ),
    "decorators": (
        """
        import functools
        def twice(function):
            @functools.wraps(function)
            def wrapper(*args):
                function(*args)
                return function(*args)
            return wrapper
        @twice
        def hello(name): return name
        def main(): hello("x")
        """,
        """
        call main
          call wrapper
            call hello
            return hello
            call hello
            return hello
          return wrapper
        return main
        """,
    ),
    "callbacks out of C": (
        """
        class Ordered:
            def __init__(self, n): self.n = n
            def __lt__(self, other): return self.n < other.n
        def key(n): return -n
        def main():
            sorted([2, 1], key=key)
            list(map(key, [1]))
            Ordered(1) < Ordered(2)
        """,
        """
        call main
          call key
          return key
          call key
          return key
          call key
          return key
          call __init__
          return __init__
          call __init__
          return __init__
          call __lt__
          return __lt__
        return main
        """,
    ),
    "coroutines": (
        """
        class Once:
            def __await__(self): yield 1
        async def inner(): await Once()
        async def outer(): await inner()
        def main():
            c = outer()
            c.send(None)
            try: c.send(None)
            except StopIteration: pass
        """,
        """
        call main
          call outer
            call inner
              call __await__
              yield __await__
            yield inner
          yield outer
          resume outer
            resume inner
              resume __await__
              return __await__
            return inner
          return outer
        return main
        """,
    ),
    "asynchronous generator": (
        """
        async def numbers():
            yield 1
        async def use():
            async for n in numbers(): pass
        def main():
            c = use()
            try: c.send(None)
            except StopIteration: pass
        """,
        """
        call main
          call use
            call numbers
            yield numbers
            resume numbers
            return numbers
          return use
        return main
        """,
    ),
    "context managers": (
        """
        import contextlib
        class Quiet:
            def __enter__(self): return self
            def __exit__(self, *exc): return True
        def main():
            with Quiet(): raise KeyError("x")
        """,
        """
        call main
          call __enter__
          return __enter__
          call __exit__
          return __exit__
        return main
        """,
    ),
}
