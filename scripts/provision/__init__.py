"""Makes a machine ready to run and test this repository. Needs nothing but Python's standard library.

    report.py      steps with a progress bar, a log, and errors that say what to do
    host.py        what machine is this: Python, processor, sourced ROS 2, Debian packages
    stamp.py       remembers what was done from which inputs, so that a second run is instant
    wheels.py      a virtual environment with ROS 2 from the PyPI wheels
    interfaces.py  builds ROS interface packages into that environment
    workspace.py   a virtual environment and a colcon workspace on top of a sourced ROS 2
    environment.py which Python runs the code, and with which variables
    lanes.py       the lanes of the test run

It knows nothing of exaone_ros: it never imports it.
"""
