"""Robots as geometry: URDF to joints, links, skeletons, cameras, control and inverse kinematics."""
