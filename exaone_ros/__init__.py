"""EXAONE 4.5 as a robot's eyes and judgement: a ROS 2 package.

The rooms, from the street to the cellar (imports run downwards only, see docs/architecture.md):

    nodes -> ros -> tasks, engine, action, sim -> model
"""

from exaone_ros.interrupt import tell_of_interrupts as _tell_of_interrupts

__version__ = "0.1.0"

_tell_of_interrupts()
