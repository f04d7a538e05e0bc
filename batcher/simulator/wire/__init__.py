"""Requests, checked as the API does; answers whole, streamed, or broken as a fault asks for."""
