// The ways in which Go programs use the network. Arguments: what to do, server.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

func try(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func echo(c net.Conn) {
	b := make([]byte, 16)
	c.SetDeadline(time.Now().Add(9 * time.Second))
	_, err := c.Write([]byte("hi"))
	try(err)
	n, err := c.Read(b)
	try(err)
	if string(b[:n]) != "hi" {
		try(fmt.Errorf("got %q", b[:n]))
	}
}

func main() {
	server := os.Args[2]
	switch os.Args[1] {
	case "http":
		r, err := http.Get("http://" + server + "/")
		try(err)
		_, err = io.Copy(io.Discard, r.Body)
		try(err)
	case "tcp", "udp":
		c, err := net.Dial(os.Args[1], server+":7")
		try(err)
		if host, _, _ := net.SplitHostPort(c.RemoteAddr().String()); host != server {
			try(fmt.Errorf("the peer is said to be %s", host))
		}
		echo(c)
	case "loopback":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		try(err)
		go func() {
			c, err := l.Accept()
			try(err)
			io.Copy(c, c)
		}()
		c, err := net.Dial("tcp", l.Addr().String())
		try(err)
		echo(c)
	case "packet":
		c, err := net.ListenPacket("udp4", ":0")
		try(err)
		c.SetDeadline(time.Now().Add(5 * time.Second))
		to, err := net.ResolveUDPAddr("udp4", server+":7")
		try(err)
		_, err = c.WriteTo([]byte("hi"), to)
		try(err)
		_, _, err = c.ReadFrom(make([]byte, 16))
		try(err)
	}
	fmt.Println("ok")
}
