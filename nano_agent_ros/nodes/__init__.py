"""The ROS 2 nodes: thin shells of parameters, topics, threads and lifecycle around the plain Python of the package."""
