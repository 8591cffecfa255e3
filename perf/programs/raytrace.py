"""A ray tracer of spheres over a chequered floor: small immutable vectors, operators, and arithmetic between the calls."""

from __future__ import annotations

import math

FULL, QUICK = 70, 6
CHECKSUMS = {FULL: 771899050, QUICK: 620287348}
DEPTH = 3


class Vector:
    __slots__ = ("x", "y", "z")

    def __init__(self, x: float, y: float, z: float) -> None:
        self.x = x
        self.y = y
        self.z = z

    def __add__(self, other: Vector) -> Vector:
        return Vector(self.x + other.x, self.y + other.y, self.z + other.z)

    def __sub__(self, other: Vector) -> Vector:
        return Vector(self.x - other.x, self.y - other.y, self.z - other.z)

    def times(self, factor: float) -> Vector:
        return Vector(self.x * factor, self.y * factor, self.z * factor)

    def dot(self, other: Vector) -> float:
        return self.x * other.x + self.y * other.y + self.z * other.z

    def unit(self) -> Vector:
        return self.times(1.0 / math.sqrt(self.dot(self)))

    def mirrored(self, normal: Vector) -> Vector:
        return self - normal.times(2.0 * self.dot(normal))


class Ray:
    __slots__ = ("direction", "start")

    def __init__(self, start: Vector, direction: Vector) -> None:
        self.start = start
        self.direction = direction.unit()

    def at(self, distance: float) -> Vector:
        return self.start + self.direction.times(distance)


class Sphere:
    def __init__(self, centre: Vector, radius: float, colour: Vector, mirror: float) -> None:
        self.centre = centre
        self.radius = radius
        self.flat_colour = colour
        self.mirror = mirror

    def hit(self, ray: Ray) -> float | None:
        towards = self.centre - ray.start
        along = towards.dot(ray.direction)
        inside = self.radius * self.radius - (towards.dot(towards) - along * along)
        if inside < 0.0:
            return None
        distance = along - math.sqrt(inside)
        return distance if distance > 1e-6 else None

    def normal(self, point: Vector) -> Vector:
        return (point - self.centre).unit()

    def colour(self, point: Vector) -> Vector:
        return self.flat_colour


class Floor:
    mirror = 0.15

    def __init__(self, height: float) -> None:
        self.height = height

    def hit(self, ray: Ray) -> float | None:
        if abs(ray.direction.y) < 1e-6:
            return None
        distance = (self.height - ray.start.y) / ray.direction.y
        return distance if distance > 1e-6 else None

    def normal(self, point: Vector) -> Vector:
        return Vector(0.0, 1.0, 0.0)

    def colour(self, point: Vector) -> Vector:
        odd = (math.floor(point.x) + math.floor(point.z)) & 1
        return Vector(0.9, 0.9, 0.9) if odd else Vector(0.2, 0.2, 0.25)


class Scene:
    def __init__(self) -> None:
        self.light = Vector(4.0, 6.0, -4.0)
        self.sky = Vector(0.5, 0.6, 0.8)
        self.bodies: list = [Floor(-1.0)]
        for i in range(4):
            self.bodies.append(
                Sphere(Vector(i * 1.3 - 2.0, 0.2 * i - 0.5, 3.0 + i % 2), 0.6, Vector(0.3 + 0.2 * i, 0.4, 0.9 - 0.2 * i), 0.3)
            )

    def nearest(self, ray: Ray):
        best, where = None, math.inf
        for body in self.bodies:
            distance = body.hit(ray)
            if distance is not None and distance < where:
                best, where = body, distance
        return best, where

    def lit(self, point: Vector) -> bool:
        ray = Ray(point, self.light - point)
        return all(body.hit(ray) is None for body in self.bodies)

    def trace(self, ray: Ray, depth: int) -> Vector:
        body, distance = self.nearest(ray)
        if body is None:
            return self.sky
        point = ray.at(distance)
        normal = body.normal(point)
        shade = 0.1
        if self.lit(point):
            shade += max(0.0, normal.dot((self.light - point).unit()))
        colour = body.colour(point).times(shade)
        if depth == 0 or body.mirror == 0.0:
            return colour
        reflected = self.trace(Ray(point, ray.direction.mirrored(normal)), depth - 1)
        return colour.times(1.0 - body.mirror) + reflected.times(body.mirror)


def main(size: int = FULL) -> int:
    """Renders size × size pixels; the checksum mixes every pixel, rounded so that it is the same everywhere."""
    scene, eye, checksum = Scene(), Vector(0.0, 0.5, -4.0), 0
    for row in range(size):
        for column in range(size):
            direction = Vector(column / size - 0.5, 0.5 - row / size, 1.0)
            pixel = scene.trace(Ray(eye, direction), DEPTH)
            checksum = (checksum * 31 + round(1000 * (pixel.x + pixel.y + pixel.z))) % 1_000_000_007
    return checksum
