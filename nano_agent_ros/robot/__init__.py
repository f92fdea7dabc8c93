"""A simulated robot in plain Python: planar kinematics, a queue of actions, a battery. No ROS."""
