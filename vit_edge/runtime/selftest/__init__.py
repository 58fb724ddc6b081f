"""Does a bundle work on this device as it did where it was built?

A wrong kernel, integers that saturate on an older CPU, a driver that computes something else, two onnxruntime
wheels in one environment, a file damaged on the way: none of them need raise an error, and each shows here.
"""
