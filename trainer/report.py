def write_report(folder, **k):
    pass
