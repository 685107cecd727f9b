import subprocess,sys,time,signal,os
for sig,after in ((signal.SIGTERM,8),):
    p=subprocess.Popen([sys.executable,"-m","exaone_ros.nodes.demo","--seconds","60","--out","/tmp/p6/eyes7/demo_c","--max-age","5"],stdout=open("/tmp/p6/eyes7/m.log","wb"),stderr=subprocess.STDOUT,stdin=subprocess.DEVNULL)
    time.sleep(after); t0=time.time(); p.send_signal(sig); rc=p.wait(30); print(sig,after,"rc",rc,f"{time.time()-t0:.1f}s")
    left=subprocess.run(["pgrep","-af","exaone_ros.nodes.(simulator|perception|companion)"],capture_output=True,text=True).stdout.splitlines()
    print([l[:160] for l in left if "demo_c" in l or os.environ["ROS_DOMAIN_ID"] in l], open("/tmp/p6/eyes7/m.log").read()[-700:])
    print(os.listdir("/tmp/p6/eyes7/demo_c"))
