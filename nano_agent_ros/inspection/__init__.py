"""Camera frames and detections become defect reports: golden samples, tracking, policy, store. Plain Python, no ROS."""
